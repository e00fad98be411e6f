#!/usr/bin/env python3
"""From a fresh clone to a running mail host: python3 run.py

    python3 run.py              sets up once, then serves and shows that it works
    python3 run.py test ...     the tests (the rest goes to pytest)
    python3 run.py bench ...    the measurements beside other mail servers
    python3 run.py ARGS         the command `pillarbox ARGS`

Needs Python and pip, or uv, and nothing else. What it installs goes into .venv beside this file.
"""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(HERE, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
JOBS = {
    "test": ("requirements-dev.txt", ["-m", "pytest", "-n", "auto"]),
    "bench": ("requirements-bench.txt", ["-m", "bench"]),
}


def set_up(requirements):
    """Make .venv once, and again when the requirements, our commands, this Python, or the clone's place have changed."""
    path, stamp = os.path.join(HERE, requirements), os.path.join(VENV, "stamp-" + requirements)
    with open(path, "rb") as file, open(os.path.join(HERE, "pyproject.toml"), "rb") as project:
        wanted = hashlib.sha256(file.read() + project.read() + sys.version.encode() + HERE.encode()).hexdigest()
    if os.path.exists(PYTHON) and content(stamp) == wanted:
        return
    if not shutil.which("uv") and not importlib.util.find_spec("pip"):
        sys.exit("Setting up needs pip or uv. On Debian: apt-get install python3-pip")
    once = "this is done once, and takes about a quarter of a minute"
    print(f"Setting up {VENV} with {requirements}; {once} ...", file=sys.stderr, flush=True)
    if not works():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", VENV], check=True)
    if shutil.which("uv"):
        install = ["uv", "pip", "install", "--quiet", "--python", PYTHON]
    else:
        install = [sys.executable, "-m", "pip", "--python", PYTHON, "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--requirement", path], check=True)
    subprocess.run([*install, "--no-deps", "--editable", HERE], check=True)
    with open(stamp, "w") as file:
        file.write(wanted)


def content(path):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def works():
    """Is there a .venv of this very Python version?"""
    ask = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    return os.path.exists(PYTHON) and subprocess.run([PYTHON, "-c", ask]).returncode == 0


def main():
    if sys.version_info < (3, 11):  # noqa: UP036  (an older one may well be what `python3` means)
        sys.exit(f"Pillarbox needs Python 3.11 or later; this is {sys.version.split()[0]}. Try: python3.11 run.py")
    requirements, start = JOBS.get("".join(sys.argv[1:2]), ("requirements.txt", []))
    try:
        set_up(requirements)
    except subprocess.CalledProcessError as error:
        sys.exit(f"The set-up failed, the lines above say why: {error.cmd[0]} ended with status {error.returncode}")
    except KeyboardInterrupt:
        print("interrupted; the next run sets up again", file=sys.stderr)
        sys.exit(130)
    os.environ["PILLARBOX_COMMAND"] = "python3 run.py"  # what hints name
    if start:
        os.chdir(HERE)
    os.execv(PYTHON, [PYTHON, *start, *sys.argv[2:]] if start else [PYTHON, "-m", "pillarbox", *sys.argv[1:]])


if __name__ == "__main__":
    main()
