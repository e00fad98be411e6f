"""The classic programs as an installation has them: a package that every user may read, and a folder of links to it."""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pillarbox.commands import executable
from pillarbox.programs.names import PROGRAMS


@dataclass(frozen=True)
class Installation:
    """`python`: what runs the programs."""

    folder: Path
    python: str

    @classmethod
    def under(cls, folder: Path) -> Installation:
        """Lay it below `folder`, compiled, or find it there."""
        made = cls(folder / "classic", executable.interpreter())
        if made.folder.exists():
            return made
        library = made.folder / "lib"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(Path(executable.package_folder()) / "pillarbox", library / "pillarbox", ignore=ignored)
        if made.python == executable.SYSTEM_PYTHON:  # it has marks of its own for what is compiled
            subprocess.run([made.python, "-I", "-S", "-m", "compileall", "-q", library], check=True)
        else:
            compileall.compile_dir(library, quiet=1)
        program = made.folder / executable.NAME
        program.write_text(executable.content(made.python, str(library), sysconfig.get_path("purelib")))
        program.chmod(0o755)
        return made

    def links(self, name: str, programs: Iterable[str] = PROGRAMS) -> Path:
        """A folder of that name, with these programs."""
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir(mode=0o755)
            for program in programs:
                (folder / program).symlink_to(self.folder / executable.NAME)
        return folder
