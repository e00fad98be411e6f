"""The main job and the demo: what a newcomer sees."""

from __future__ import annotations

import hashlib
import os
import poplib
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pillarbox import demo
from pillarbox.home import Home
from pillarbox.testing import server

END = "Serving until Ctrl-C"


def environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("PILLARBOX")}


@contextmanager
def main_job(place: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`pillarbox` running on a home, and what it said until it serves."""
    command = [sys.executable, "-m", "pillarbox", "--home", str(place)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None
            said = ""
            while END not in said and (line := process.stdout.readline()):
                said += line
            yield process, said
        finally:
            process.kill()


def finish(process: subprocess.Popen[str], number: int = signal.SIGINT) -> tuple[str, str, int]:
    process.send_signal(number)
    out, err = process.communicate()
    return out, err, process.returncode


def quiet_ports(place: Path) -> None:
    place.mkdir(mode=0o711)
    (place / "pillarbox.toml").write_text(demo.ANY_PORTS)


def test_the_first_start_shows_all_that_a_person_needs(open_folder: Path) -> None:
    quiet_ports(open_folder / "home")
    with main_job(open_folder / "home") as (process, said):
        host, port = re.findall(r"POP3 +(\S+)  port (\d+)", said)[0]
        account = re.findall(r"Account +(\S+)", said)[0]
        secret = re.findall(r"Secret +(\S+)", said)[0]
        assert said.count(secret) == 1  # shown once, and not in the transcript
        for client in ("fetchmail", "mpop", "Thunderbird", "curl"):
            assert client in said
        pop3 = poplib.POP3(host, int(port))  # what it says must be what works
        pop3.apop(account, secret)
        assert b"Subject: Welcome to Pillarbox" in pop3.retr(1)[1]
        pop3.quit()
        out, err, status = finish(process)
    assert status == 0 and "Stopped." in out
    assert secret not in err and "Traceback" not in err
    assert f"session rip={demo.ONLOOKER} proto=pop3" in err
    assert Home(str(open_folder / "home")).running() is None


def test_the_fingerprint_is_shown_that_clients_will_see(open_folder: Path) -> None:
    quiet_ports(open_folder / "home")
    with main_job(open_folder / "home") as (process, said):
        ((host, port),) = re.findall(r"POP3 +(127\.0\.0\.1)  port (\d+)  TLS\n", said)
        served = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((host, int(port))))
        assert f"\n           {hashlib.sha256(served).digest().hex(':').upper()}\n" in said
        finish(process)


def test_the_login_for_show_makes_no_newcomers_address_look_shared(open_folder: Path) -> None:
    quiet_ports(open_folder / "home")
    with main_job(open_folder / "home") as (process, said):
        ports = [int(port) for port in re.findall(r"127\.0\.0\.1  port (\d+)", said)]
        command = [sys.executable, "-m", "pillarbox", "account", "add", "alice", "--home", str(open_folder / "home")]
        added = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        pop3 = poplib.POP3("127.0.0.1", ports[0])
        pop3.apop("alice", re.findall(r"secret: (\S+)", added)[0])
        pop3.quit()
        with smtplib.SMTP("127.0.0.1", ports[1]) as smtp:
            smtp.ehlo()
            smtp.mail("alice@localhost.localdomain")
            assert smtp.rcpt("bob@elsewhere.test")[0] == 250
        finish(process)


def test_the_transcript_is_real_and_hides_the_proof(open_folder: Path) -> None:
    quiet_ports(open_folder / "home")
    with main_job(open_folder / "home") as (process, said):
        finish(process)
    transcript = [line for line in said.split("\n") if line.startswith(("C: ", "S: "))]
    assert next(line for line in transcript if line.startswith("C: APOP ")).endswith(" ***")
    assert not re.search(r"\b[0-9a-f]{32}\b", re.sub(r"<[^>]*>", "", "\n".join(transcript)))
    assert "C: DATA" in transcript and "S: Subject: Welcome to Pillarbox" in transcript


def test_the_second_start_shows_no_secret_and_brings_no_mail(open_folder: Path) -> None:
    quiet_ports(open_folder / "home")
    with main_job(open_folder / "home") as (process, said):
        secret = re.findall(r"Secret +(\S+)", said)[0]
        finish(process)
    with main_job(open_folder / "home") as (process, said):
        out, err, status = finish(process, signal.SIGTERM)
    assert status == 0
    assert secret not in said + out + err
    assert re.search(rf"pillarbox account secret \S+ --home {open_folder}/home\n", said)
    assert "C: DATA" not in said and "S: +OK 1 " in said


def test_it_ends_when_the_server_is_stopped_from_elsewhere(open_folder: Path) -> None:
    quiet_ports(open_folder / "home")
    with main_job(open_folder / "home") as (process, _):
        command = [sys.executable, "-m", "pillarbox", "stop", "--home", str(open_folder / "home")]
        subprocess.run(command, check=True, capture_output=True)
        process.communicate()
        assert process.returncode == 0


def test_a_taken_default_port_is_replaced_only_where_nothing_is_configured(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert demo._free(f"127.0.0.1:{port}") != f"127.0.0.1:{port}"
        monkeypatch.setattr(demo, "_free", lambda address: f"127.0.0.1:{port + 1}" if ":1110" in address else address)
        home = Home(str(open_folder))
        assert "names free ones" in demo._move_from_taken_ports(home)
        assert f"127.0.0.1:{port + 1}" in Path(home.config).read_text()
        assert demo._move_from_taken_ports(home) == ""
        os.unlink(home.config)
        Path(home.accounts).touch()
        assert demo._move_from_taken_ports(home) == "" and not os.path.exists(home.config)


def test_the_main_job_beside_a_running_server(open_folder: Path) -> None:
    with server() as running:
        command = [sys.executable, "-m", "pillarbox", "--home", str(running.home)]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 75
    assert f"already (pid {running.pid})" in done.stderr and not done.stdout


def test_the_demo_ends_by_itself_and_leaves_nothing(tmp_path: Path) -> None:
    home = {**environment(), "HOME": str(tmp_path), "TMPDIR": "/tmp", "PILLARBOX_HOME": str(tmp_path / "untouched")}
    done = subprocess.run([sys.executable, "-m", "pillarbox", "demo"], capture_output=True, text=True, env=home)
    assert done.returncode == 0, done.stderr
    folder = re.findall(r"runs in (\S+),", done.stdout)[0]
    assert not os.path.exists(folder)
    assert list(tmp_path.iterdir()) == []
    assert "C: APOP alice@localhost.localdomain ***" in done.stdout
    assert "Secret" not in done.stdout
