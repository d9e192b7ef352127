"""Commands: what goes in, what comes out, and when they end."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from swebench_lab.errors import SandboxClosed, SandboxPathError
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.testing.conformance.kit import Opener, equal, fails, in_a_box, needs, true, with_boxes


@in_a_box
def a_command_reports_output_and_exit_code(box: Sandbox) -> None:
    """Output and exit code arrive."""
    result = box.run("echo hi; exit 3")
    equal((result.output, result.exit_code, result.ok, result.signal), ("hi\n", 3, False, None))


@in_a_box
def a_list_runs_without_a_shell(box: Sandbox) -> None:
    """A list is a program with arguments, which no shell looks at."""
    equal(box.run(["printf", "%s|%s", "$HOME", "a b"]).output, "$HOME|a b")


@in_a_box
def a_death_by_signal_is_reported(box: Sandbox) -> None:
    """A signal that ends the first process is named, with the exit code of a shell."""
    result = box.run(["sh", "-c", "kill -SEGV $$"])
    equal((result.signal, result.exit_code), (11, 139))


@in_a_box
def a_command_starts_with_every_signal_as_usual(box: Sandbox) -> None:
    """No signal is ignored or held back by what started the command; SIGTERM ends a job."""
    equal(box.run("trap; sleep 60 & kill $!; wait $!; echo $?", timeout=30).output, "143\n")
    text = (
        "import signal as s; print(*(n for n in range(1, 20) if s.getsignal(n) == s.SIG_IGN), s.pthread_sigmask(0, []))"
    )
    equal(box.run(["python3", "-I", "-c", text]).output, "13 set()\n", "ignored by Python itself, and held back")


@in_a_box
def errors_are_merged_in_order_or_kept_apart(box: Sandbox) -> None:
    """Errors are part of the output, or apart when asked for."""
    text = "echo one; echo two >&2; echo three"
    equal(box.run(text).output, "one\ntwo\nthree\n")
    apart = box.run(text, merge=False)
    equal((apart.stdout, apart.stderr), (b"one\nthree\n", b"two\n"))


@in_a_box
def output_is_bytes_as_written(box: Sandbox) -> None:
    """Every byte arrives as it is; text is decoded leniently."""
    result = box.run(["printf", r"\000\377\012\200"])
    equal(result.stdout, b"\x00\xff\n\x80")
    true("\ufffd" in result.output, "undecodable bytes are marked in text")


@in_a_box
def input_is_bytes_as_given(box: Sandbox) -> None:
    """A command reads what it is given, and nothing when nothing is given."""
    data = bytes(range(256)) * 5000
    equal(box.run("cat", stdin=data).stdout, data)
    equal(box.run("cat", stdin="text").output, "text")
    equal(box.run("cat", timeout=10).stdout, b"")


@in_a_box
def a_command_starts_in_the_work_tree(box: Sandbox) -> None:
    """The work tree is where commands run; a relative directory is below it."""
    equal(box.run("pwd").output.strip(), box.workdir)
    equal(box.run("pwd", cwd="src").output.strip(), f"{box.workdir}/src")
    equal(box.run("pwd", cwd="/").output.strip(), "/")


@in_a_box
def a_missing_directory_is_an_error_that_names_it(box: Sandbox) -> None:
    """Running in a directory that does not exist is a path error."""
    error = fails(SandboxPathError, lambda: box.run("true", cwd="no/such"), "a missing directory")
    true("no/such" in str(error), f"the message names the directory: {error}")


@in_a_box
def a_missing_program_is_an_error_that_names_it(box: Sandbox) -> None:
    """Running a program that does not exist is a path error; the box goes on."""
    error = fails(SandboxPathError, lambda: box.run(["no-such-program"]), "a missing program")
    true("no-such-program" in str(error), f"the message names the program: {error}")
    equal(box.run("echo on").output, "on\n")


@in_a_box
def variables_of_a_command_are_added_and_removed(box: Sandbox) -> None:
    """A command's variables come on top of the box's; None removes one."""
    equal(box.run("echo $A-$LANG", env={"A": "x"}).output, "x-C.UTF-8\n")
    equal(box.run("echo ${LANG-gone}", env={"LANG": None}).output, "gone\n")
    equal(box.run("echo ${A-gone}").output, "gone\n")


@with_boxes
def variables_of_a_box_reach_every_command(open_box: Opener) -> None:
    """Variables given when a box is opened are seen by commands and sessions."""
    with open_box(env={"TOKENS": "7"}) as box:
        equal(box.run("echo $TOKENS").output, "7\n")
        with box.session() as session:
            equal(session.run("echo $TOKENS").output, "7\n")


@in_a_box
def the_environment_is_clean(box: Sandbox) -> None:
    """No variable of the process that opened the box is passed on."""
    names = {line.partition("=")[0] for line in box.run(["env"]).output.splitlines()}
    expected = {
        "PATH",
        "HOME",
        "TMPDIR",
        "USER",
        "LANG",
        "TERM",
        "PAGER",
        "GIT_PAGER",
        "GIT_CONFIG_SYSTEM",
        "VIRTUAL_ENV",
    }
    expected |= set(box.snapshot.env)
    equal(names - expected, set(), "unexpected variables")


@in_a_box
def the_interpreter_runs(box: Sandbox) -> None:
    """Python is there, whatever place it has on the host."""
    equal(box.run(["python3", "-c", "import json, ssl, sqlite3; print(6 * 7)"]).output, "42\n")


@in_a_box
def only_standard_descriptors_are_open(box: Sandbox) -> None:
    """A command inherits 0, 1 and 2, and nothing that belongs to the box's own channels."""
    text = "import os; print([fd for fd in range(3, 300) if os.path.exists(f'/proc/self/fd/{fd}')])"
    descriptors = box.run(["python3", "-c", text]).output
    equal(descriptors.strip(), "[]")


@in_a_box
def a_timeout_ends_a_command_and_keeps_its_output(box: Sandbox) -> None:
    """At the timeout a command ends, what it wrote is kept, and the box goes on."""
    start = time.monotonic()
    result = box.run("echo early; sleep 60", timeout=0.3)
    equal((result.timed_out, result.exit_code, result.output), (True, None, "early\n"))
    true(time.monotonic() - start < 10, "it ended soon after the timeout")
    equal(box.run("echo on").output, "on\n")


@needs("command trees")
@in_a_box
def a_timeout_ends_the_whole_tree(box: Sandbox) -> None:
    """Children, grandchildren, daemons in sessions of their own: all of a command ends at its timeout."""
    box.run(
        'said=\'echo $$ >>pids; exec sleep 7700\'; sh -c "$said" & (setsid sh -c "$said" &); '
        '(setsid sh -c "(sh -c \'$said\') & wait" >/dev/null 2>&1 &); nohup sh -c "$said" >/dev/null 2>&1 & '
        "until [ $(wc -l <pids) = 4 ]; do sleep 0.01; done; sleep 7705",
        timeout=1.0,
    )
    equal(len(box.read("pids").split()), 4, "processes that it started")
    look = "for p in $(cat pids); do kill -0 $p 2>/dev/null && echo $p; done"
    _wait_until(lambda: box.run(look).output == "", "no process of it is left")


@in_a_box
def a_timeout_leaves_other_commands_alone(box: Sandbox) -> None:
    """A timeout of one command does not touch another that runs at the same time, nor what ran before."""
    box.run("sleep 7711 >/dev/null 2>&1 & echo $! > job")
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(box.run, "sleep 1.5; echo done")
        time.sleep(0.2)
        box.run("sleep 7712", timeout=0.3)
        equal(other.result().output, "done\n")
    true(box.run("kill -0 $(cat job)").ok, "a background job of an earlier command lives")


@in_a_box
def a_background_job_does_not_hold_a_command_up(box: Sandbox) -> None:
    """A command ends with its first process, though a job it left still has its output open."""
    start = time.monotonic()
    result = box.run("(while :; do echo tick; sleep 0.1; done) & echo started")
    true(time.monotonic() - start < 5, "the command ended at once")
    true("started" in result.output, "its output is there")


@needs("command trees")
@in_a_box
def a_background_job_can_go_on_writing(box: Sandbox) -> None:
    """A job that keeps writing to the output of a command that has ended neither dies of it nor blocks."""
    box.run("(for i in $(seq 300); do head -c 1000 /dev/zero; sleep 0.002; done; touch finished) & true")
    _wait_until(lambda: box.run("test -e finished").ok, "the job came to its end")


@in_a_box
def large_output_keeps_head_and_tail(box: Sandbox) -> None:
    """Of output beyond the bound the head and the tail are kept, and what was left out is counted."""
    result = box.run("echo first; head -c 5000000 /dev/zero | tr '\\0' x; echo; echo last", max_output=10_000)
    true(result.stdout.startswith(b"first\n") and result.stdout.endswith(b"last\n"), "head and tail are kept")
    true(len(result.stdout) < 10_200, "no more than the bound is kept")
    true(4_985_000 < result.truncated_bytes < 5_000_100, f"left out: {result.truncated_bytes}")
    equal(result.limit, "output")


@in_a_box
def large_output_does_not_grow_memory(box: Sandbox) -> None:
    """A hundred megabytes of output pass without being held, of a command and of a session."""
    with box.session() as session:
        for run in (box.run, session.run):
            before = _most_memory(anew=True)
            result = run("head -c 100000000 /dev/zero", max_output=1_000_000)
            equal(len(result.stdout) - len(b"\n[... 99000000 bytes left out ...]\n"), 1_000_000)
            grown = _most_memory() - before
            true(grown < 30_000_000, f"memory grew by {grown} bytes")


def _most_memory(anew: bool = False) -> int:
    """The most memory of this process, in bytes: ever, or from now on."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@in_a_box
def a_long_command_is_no_problem(box: Sandbox) -> None:
    """A command longer than the kernel takes as one argument runs all the same."""
    text = "cat > long.txt <<'EOF'\n" + "x" * 99 + "\n" * 1
    text += ("y" * 99 + "\n") * 5000 + "EOF\nwc -c < long.txt"
    equal(box.run(text).output.strip(), str(100 + 100 * 5000))


@in_a_box
def commands_run_at_the_same_time(box: Sandbox) -> None:
    """Several threads can use one box at once, each getting its own output."""
    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(lambda number: box.run(f"sleep 0.1; echo {number}").output, range(24)))
    equal(outputs, [f"{number}\n" for number in range(24)])


@with_boxes
def boxes_open_at_the_same_time(open_box: Opener) -> None:
    """Many threads can open and use boxes at once."""

    def use(number: int) -> str:
        with open_box() as box:
            box.write("mine.txt", str(number))
            return box.run("cat mine.txt; ls | wc -l").output

    with ThreadPoolExecutor(8) as pool:
        outputs = list(pool.map(use, range(16)))
    equal([output.split()[0][: len(str(number))] for number, output in enumerate(outputs)], [str(n) for n in range(16)])
    equal(
        len({output[len(str(number)) :] for number, output in enumerate(outputs)}), 1, "every box sees the same files"
    )


@with_boxes
def closing_twice_is_fine_and_use_after_it_is_an_error(open_box: Opener) -> None:
    """A closed box says that it is closed."""
    box = open_box()
    box.close()
    box.close()
    true(box.closed, "it says so")
    fails(SandboxClosed, lambda: box.run("true"), "a command after close")
    fails(SandboxClosed, lambda: box.read("README.md"), "reading after close")


@with_boxes
def a_box_tells_whether_it_is_alive(open_box: Opener) -> None:
    """`alive()` holds while a box can be asked, and no longer once it is closed."""
    with open_box() as box:
        true(box.alive(), "it is alive")
    true(not box.alive(), "it is not, once closed")


@with_boxes
def closing_ends_a_command_that_runs(open_box: Opener) -> None:
    """A command that runs while its box is closed ends with an error that says so."""
    box = open_box()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(box.run, "sleep 60")
        threading.Event().wait(0.3)
        box.close()
        fails(SandboxClosed, lambda: running.result(timeout=10), "the running command")


@in_a_box
def the_host_name_of_a_box_does_not_matter_to_python(box: Sandbox) -> None:
    """Names like localhost and the box's own resolve without a network."""
    text = "import socket; print(socket.gethostbyname('localhost'))"
    equal(box.run(["python3", "-c", text]).output.strip(), "127.0.0.1")


def _wait_until(true_now: object, what: str) -> None:
    """Wait up to ten seconds for something to hold."""
    deadline = time.monotonic() + 10
    while not true_now():  # type: ignore[operator]
        true(time.monotonic() < deadline, what)
        time.sleep(0.05)
