"""Running a program: its end, its limit, its failure, and one that outlived the process that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from jobs import running
from waiting import SLOW, content, leap, until, written

from zoo.errors import CalculationFailed, ZooError
from zoo.oracles import external
from zoo.oracles.external import end_programs, missing_program, run_program, signal_of

pytestmark = pytest.mark.extended


def script(path: Path, text: str) -> str:
    """An executable shell script; its command."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return f"'{path}'"


def ended(pid: int) -> bool:
    return bool(until(lambda: not running(pid), what=lambda: f"process {pid} does not end"))


def test_it_runs_in_the_folder_with_arguments_input_and_environment(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    program = script(tmp_path / "my program", 'pwd; cat; echo "$MINE $1"; echo wrong >&2; exit 3')
    (folder / "in").write_text("given\n")
    status = run_program(f"{program} 'one $HOME; ls'", folder, log="out", stdin="in", env={"MINE": "yes"})
    assert status == 3
    assert (folder / "out").read_text() == f"{folder}\ngiven\nyes one $HOME; ls\nwrong\n"
    assert run_program("cat", folder, log="out") == 0
    assert (folder / "out").read_text() == ""


def test_a_relative_path_is_relative_to_where_we_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "crystal").mkdir()
    script(tmp_path / "bin" / "go", "echo there")
    monkeypatch.chdir(tmp_path)
    assert run_program("bin/go", Path("crystal"), log="out") == 0
    assert (tmp_path / "crystal" / "out").read_text() == "there\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("no-such-program-zoo -np 2", "'no-such-program-zoo'"),
        ("", "is empty"),
        ("pw.x 'half", "cannot be read"),
        ("/etc/passwd", "is not there"),
    ],
)
def test_a_program_that_is_not_there(tmp_path: Path, command: str, words: str) -> None:
    assert words in str(missing_program(command))
    with pytest.raises(ZooError, match=words):
        run_program(command, tmp_path, log="out")
    assert list(tmp_path.iterdir()) == []
    assert missing_program("sh -c 'pw.x'") is None


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o755)
    with pytest.raises(ZooError, match="cannot be started"):
        run_program(str(broken), tmp_path, log="out")
    assert run_program("true", tmp_path, log="out") == 0  # nothing is held


def test_the_wall_limit_ends_the_whole_calculation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The inner one has left the session, as the processes of an MPI program may.
    program = script(
        tmp_path / "go", "setsid sleep 600 & echo $! > inner; sleep 600 & echo $! > beside; echo $$ > own; wait"
    )
    names = ("own", "beside", "inner")
    with monkeypatch.context() as clock, pytest.raises(CalculationFailed, match=r"go .* wall limit"):
        leap(clock, lambda: all(content(tmp_path / name) for name in names), 3600.0)
        run_program(program, tmp_path, log="out", deadline=time.monotonic() + 3600.0)
    for name in names:
        assert ended(int(written(tmp_path / name))), name
    with pytest.raises(CalculationFailed, match="wall limit"):
        run_program("true", tmp_path, log="out", deadline=time.monotonic() - 1.0)


def test_one_that_does_not_hear_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "GRACE", 0.5)
    program = script(tmp_path / "deaf", "trap '' TERM; echo $$ > own; while true; do sleep 0.1; done")
    with monkeypatch.context() as clock, pytest.raises(CalculationFailed, match="wall limit"):
        leap(clock, lambda: content(tmp_path / "own"), 3600.0)
        run_program(program, tmp_path, log="out", deadline=time.monotonic() + 3600.0)
    assert ended(int(written(tmp_path / "own")))


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    program = script(tmp_path / "go", "echo $$ > own; sleep 600")
    # A shell's background jobs, and what they start, ignore Ctrl-C: not this one.
    code = f"""
import pathlib, signal, zoo.oracles.external as e
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    e.run_program({program!r}, pathlib.Path({str(tmp_path)!r}), log="out")
except KeyboardInterrupt:
    print("interrupted")
"""
    ours = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid = int(written(tmp_path / "own"))
    written(tmp_path / external.LOCK)  # it is known by then
    ours.send_signal(signal.SIGINT)
    assert ours.communicate(timeout=SLOW)[0] == "interrupted\n"
    assert ended(pid)


def orphan(folder: Path, command: str) -> int:
    """Start a command through the zoo and kill the zoo; the process id of the command, which lives on."""
    code = (
        f"import pathlib, zoo.oracles.external as e; e.run_program({command!r}, pathlib.Path({str(folder)!r}), log='o')"
    )
    ours = subprocess.Popen([sys.executable, "-c", code])
    pid = int(written(folder / "own"))
    written(folder / external.LOCK)
    ours.kill()
    ours.wait()
    assert running(pid)
    return pid


def test_one_that_outlived_us_is_ended_before_the_next_begins(tmp_path: Path) -> None:
    program = script(tmp_path / "go", "echo $$ > own; while true; do echo alive >> traces; sleep 0.05; done")
    pid = orphan(tmp_path, program)
    assert (tmp_path / external.LOCK).read_text().split()[0] == str(pid)
    second = script(tmp_path / "second", "cat traces | wc -l > before; sleep 0.3; cat traces | wc -l > after")
    assert run_program(second, tmp_path, log="out") == 0
    assert not running(pid)
    assert (tmp_path / "before").read_text() == (tmp_path / "after").read_text()


def test_one_that_cannot_be_ended_from_here_is_not_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = orphan(tmp_path, script(tmp_path / "go", "echo $$ > own; sleep 600"))
    monkeypatch.setattr(external, "_members", lambda folder: [])  # as on another machine
    monkeypatch.setattr(external, "GRACE", 0.2)
    try:
        with pytest.raises(ZooError, match=f"process {pid} on"):
            run_program("true", tmp_path, log="out")
    finally:
        os.killpg(pid, signal.SIGKILL)


def test_another_of_ours_that_lives_is_left_alone(tmp_path: Path) -> None:
    program = script(tmp_path / "go", "echo $$ > own; while [ ! -f go.on ]; do sleep 0.05; done")
    status = []
    thread = threading.Thread(target=lambda: status.append(run_program(program, tmp_path, log="out")))
    thread.start()
    written(tmp_path / "own")
    with pytest.raises(ZooError, match="another process"):
        run_program("true", tmp_path, log="second")
    (tmp_path / "go.on").touch()
    thread.join()
    assert status == [0]


def test_folders_beside_each_other(tmp_path: Path) -> None:
    statuses: dict[int, int] = {}

    def go(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        statuses[number] = run_program(f"sh -c 'sleep 0.3; exit {number}'", folder, log="out")

    threads = [threading.Thread(target=go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == {number: number for number in range(4)}


def test_a_signal_from_outside_is_no_failure_of_the_crystal(tmp_path: Path) -> None:
    for program in ("kill -TERM $$; sleep 5", "exit 143"):  # itself, and as mpirun tells it
        with pytest.raises(ZooError, match=r"outside .*SIGTERM"):
            run_program(script(tmp_path / "go", program), tmp_path, log="out")
    assert run_program(script(tmp_path / "go", "kill -SEGV $$"), tmp_path, log="out") == -signal.SIGSEGV


@pytest.mark.parametrize("program", ["kill -{name} $$; sleep 5", "exit {told}"])  # itself, and as mpirun tells it
@pytest.mark.parametrize(
    ("name", "words"),
    [("ILL", "go .*this processor"), ("KILL", r"go was killed .*workers\.count")],
)
def test_a_signal_of_the_machine_is_no_failure_of_the_crystal(
    tmp_path: Path, program: str, name: str, words: str
) -> None:
    number = signal.Signals[f"SIG{name}"]
    text = program.format(name=name, told=128 + number)
    with pytest.raises(ZooError, match=words):
        run_program(script(tmp_path / "go", text), tmp_path, log="out")


def test_which_signal_a_status_tells() -> None:
    assert signal_of(-11) is signal_of(139) is signal.SIGSEGV
    assert [signal_of(status) for status in (0, 1, 127, 128, 255)] == [None] * 5


@pytest.mark.parametrize("words", ["No space left on device", "Disk quota exceeded", "WRITE: DISK QUOTA EXCEEDED"])
def test_a_full_disk_is_no_failure_of_the_crystal(tmp_path: Path, words: str) -> None:
    with pytest.raises(ZooError, match="no space left"):
        run_program(script(tmp_path / "go", f"echo '{words}'; exit 1"), tmp_path, log="out")
    with pytest.raises(ZooError, match="no space left"):  # though mpirun has then killed it
        run_program(script(tmp_path / "go", f"echo '{words}'; exit 137"), tmp_path, log="out")


def test_all_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external, "_stopping", threading.Event())
    said = []

    def go() -> None:
        try:
            run_program(script(tmp_path / "go", "echo $$ > own; sleep 600"), tmp_path, log="out")
        except ZooError as error:
            said.append(str(error))

    thread = threading.Thread(target=go)
    thread.start()
    pid = int(written(tmp_path / "own"))
    end_programs()
    thread.join(SLOW)
    assert ended(pid)
    assert len(said) == 1 and said[0].startswith("go was ended")
