"""run.py and what it installs: everything pinned, nothing that names a place, and a clear word where it can't work."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ["requirements.txt", "requirements-dev.txt", "requirements-bench.txt"]
PINNED = re.compile(r"([a-z0-9-]+)==([0-9][0-9a-z.]*)( ; .*)?")


def pins(file: str) -> dict[str, str]:
    found = {}
    for line in (ROOT / file).read_text().splitlines():
        if line and not line.lstrip().startswith("#"):
            pin = PINNED.fullmatch(line)
            assert pin, f"{file}: {line} is not pinned"
            found[pin[1]] = pin[2]
    return found


def wanted(group: str = "") -> set[str]:
    tree = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = tree["dependency-groups"][group] if group else tree["project"]["dependencies"]
    return {re.split(r"[>=;<]", line)[0] for line in lines}


def test_all_that_we_need_is_pinned() -> None:
    assert wanted() <= set(pins("requirements.txt"))
    assert wanted("dev") <= set(pins("requirements-dev.txt"))
    assert wanted("bench") <= set(pins("requirements-bench.txt"))


@pytest.mark.parametrize("file", REQUIREMENTS[1:])
def test_the_same_versions_everywhere(file: str) -> None:
    assert pins("requirements.txt").items() <= pins(file).items()


@pytest.mark.parametrize("file", REQUIREMENTS)
def test_no_place_is_named(file: str) -> None:
    assert not re.search(r"https?:|index-url|file:|@ |\.\w+/", (ROOT / file).read_text())


def test_it_needs_the_standard_library_only() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import run; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", code, str(ROOT)]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert {module.split(".")[0] for module in loaded} - {"run"} <= {*sys.stdlib_module_names, "__main__"}


def test_an_old_python_is_told_what_to_do() -> None:
    code = "import sys; sys.version_info = (3, 9, 2); sys.path.insert(0, sys.argv[1]); import run; run.main()"
    done = subprocess.run([sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Pillarbox needs Python 3.11 or later") and done.stderr.count("\n") == 1


def test_without_pip_and_uv_a_person_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a clone").mkdir()
    for file in ("run.py", "requirements.txt", "pyproject.toml"):
        (tmp_path / "a clone" / file).write_bytes((ROOT / file).read_bytes())
    code = (
        "import sys, importlib.util as u; sys.argv = ['run.py']; sys.path.insert(0, sys.argv_place)\n"
        "u.find_spec = lambda name: None\nimport run; run.main()"
    ).replace("sys.argv_place", repr(str(tmp_path / "a clone")))
    environment = {"PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 1 and "apt-get install python3-pip" in done.stderr
    assert not (tmp_path / "a clone" / ".venv").exists()


def test_ctrl_c_during_the_set_up_is_no_trace() -> None:
    code = (
        "import sys; sys.argv = ['run.py']; sys.path.insert(0, sys.argv_place); import run\n"
        "def interrupt(requirements): raise KeyboardInterrupt\nrun.set_up = interrupt\nrun.main()"
    ).replace("sys.argv_place", repr(str(ROOT)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "interrupted; the next run sets up again\n")


def test_arguments_are_passed_on() -> None:
    """In a clone that is set up already, `run.py ARGS` is `pillarbox ARGS`."""
    code = (
        "import sys, os; sys.argv = ['run.py', *sys.argv[2:]]; sys.path.insert(0, os.environ['CLONE']); import run\n"
        "run.set_up = lambda requirements: print(requirements)\n"
        "os.execv = lambda program, words: print(words[1:])\nrun.main()"
    )

    def said(*arguments: str) -> list[str]:
        command = [sys.executable, "-c", code, "-", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={"CLONE": str(ROOT)})
        return done.stdout.splitlines()

    assert said() == ["requirements.txt", "['-m', 'pillarbox']"]
    assert said("account", "add", "x") == ["requirements.txt", "['-m', 'pillarbox', 'account', 'add', 'x']"]
    assert said("test", "-k", "x") == ["requirements-dev.txt", "['-m', 'pytest', '-n', 'auto', '-k', 'x']"]
    assert said("bench", "pop3") == ["requirements-bench.txt", "['-m', 'bench', 'pop3']"]
