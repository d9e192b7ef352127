"""Sessions: a shell that remembers."""

import time

from swebench_lab.errors import SandboxClosed, SandboxPathError
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.testing.conformance.kit import equal, fails, in_a_box, needs, true


@in_a_box
def a_session_keeps_directory_variables_and_functions(box: Sandbox) -> None:
    """What a command of a session sets is there for the next."""
    with box.session() as session:
        session.run('cd src; export A=1; b=2; f() { echo "f $A $b"; }')
        equal(session.run("pwd; f").output, f"{box.workdir}/src\nf 1 2\n")
        equal(session.cwd, f"{box.workdir}/src")


@in_a_box
def a_session_reports_exit_codes(box: Sandbox) -> None:
    """Exit codes of a session's commands arrive, and do not end it."""
    with box.session() as session:
        codes = [session.run(text).exit_code for text in ("true", "false", "(exit 7)", "nosuch 2>/dev/null")]
        equal(codes, [0, 1, 7, 127])
        equal(session.run("echo on").output, "on\n")


@in_a_box
def a_session_survives_broken_syntax(box: Sandbox) -> None:
    """A command that is no shell text fails by itself."""
    with box.session() as session:
        session.run("export A=1")
        for text in ("if then", "echo 'open", "(", "}", "cat <<EOF\nnever closed", "done"):
            session.run(text)
        equal(session.run("echo $A").output, "1\n")


@in_a_box
def a_session_takes_any_text(box: Sandbox) -> None:
    """Quotes, newlines, here-documents and non-ASCII text pass unharmed."""
    with box.session() as session:
        equal(
            session.run("cat <<'EOF'\n'single' \"double\" $HOME `x` \\ é\nEOF").output,
            "'single' \"double\" $HOME `x` \\ é\n",
        )
        equal(session.run("for i in 1 2\ndo\n  echo $i\ndone").output, "1\n2\n")


@in_a_box
def commands_of_a_session_read_nothing(box: Sandbox) -> None:
    """A command cannot read the session's own input: it finds the end of its input at once."""
    with box.session() as session:
        equal(session.run("cat; read x; echo $?", timeout=10).output, "1\n")
        equal(session.run("echo on").output, "on\n")


@in_a_box
def output_without_newline_is_kept_exactly(box: Sandbox) -> None:
    """Nothing is added to or taken from what commands write."""
    with box.session() as session:
        equal(session.run("printf abc").stdout, b"abc")
        equal(session.run("printf '\\n\\n'").stdout, b"\n\n")
        equal(session.run("true").stdout, b"")


@in_a_box
def a_timeout_in_a_session_ends_the_command_only(box: Sandbox) -> None:
    """At a timeout the command's processes end; the shell keeps its directory, variables and earlier jobs and daemons."""
    with box.session() as session:
        session.run("cd src; export A=1; while sleep 0.01; do :; done & echo $! >job")
        session.run("(setsid sh -c 'echo $$ >daemon; exec sleep 7801' &); until test -s daemon; do sleep 0.01; done")
        late = "(setsid sh -c 'echo $$ >late; exec sleep 7802' &); until test -s late; do sleep 0.01; done; sleep 7803"
        result = session.run(f"echo early; {late}", timeout=1.0)
        true(result.timed_out and result.output.startswith("early"), "the command timed out and its output is kept")
        equal(session.run("echo $A; pwd").output, f"1\n{box.workdir}/src\n")
        true(session.run("kill -0 $(cat job)").ok, "the earlier job lives")
        true(session.run("kill -0 $(cat daemon)").ok, "a daemon that began just before lives")
        true(not session.run("kill -0 $(cat late)").ok, "the command's own daemon does not")


@in_a_box
def a_loop_of_the_shell_itself_times_out(box: Sandbox) -> None:
    """A loop inside the shell is ended too; the session goes on in a fresh shell at the same place."""
    with box.session() as session:
        session.run("cd src")
        true(session.run("while :; do :; done", timeout=0.5).timed_out, "the loop timed out")
        equal(session.run("pwd").output, f"{box.workdir}/src\n")


@in_a_box
def a_session_that_was_left_starts_again(box: Sandbox) -> None:
    """`exit` gives that command's result; the next command gets a fresh shell at the same place."""
    with box.session() as session:
        session.run("cd src")
        equal(session.run("echo bye; exit 4").exit_code, 4)
        equal(session.run("pwd").output, f"{box.workdir}/src\n")


@needs("fork")
@in_a_box
def a_session_outlives_its_directory(box: Sandbox) -> None:
    """Where the directory of a shell that ended is gone, the next one starts above it."""
    with box.session() as session:
        session.run(f"mkdir -p {box.workdir}/a/b; cd {box.workdir}/a/b")
        session.run("rm -rf ../../a; exit 3")
        equal(session.run("pwd").output, f"{box.workdir}\n")
        session.run("mkdir c; cd c; rmdir ../c")
        with box.fork() as other, other.session() as again:
            equal(again.run("pwd").output, f"{other.workdir}\n")
    fails(SandboxPathError, lambda: box.session(cwd="missing").run("true"), "a shell in a directory that never was")


@in_a_box
def a_session_outlives_its_variables(box: Sandbox) -> None:
    """Where no shell starts with the variables of the last one, the next one has those that the session began with."""
    with box.session(env={"KEPT": "1"}) as session:
        for ruin in ("export PATH= KEPT=2", "export HUGE=$(head -c 200000 /dev/zero | tr '\\0' x)"):
            session.run(ruin)
            session.env()
            session.run("exit 3")
            equal(session.run("echo $KEPT; pwd").output, f"1\n{box.workdir}\n", ruin)


@in_a_box
def a_background_job_of_a_session_does_not_hold_it_up(box: Sandbox) -> None:
    """A job left in the background lets the session go on, and lives."""
    with box.session() as session:
        start = time.monotonic()
        session.run("sleep 7811 &")
        session.run("echo on")
        true(time.monotonic() - start < 5, "nothing waited for the job")
        true(session.run("kill -0 $!").ok, "the job lives")


@in_a_box
def large_output_of_a_session_is_bounded(box: Sandbox) -> None:
    """Output beyond the bound keeps its head and tail."""
    with box.session() as session:
        result = session.run("echo first; head -c 3000000 /dev/zero; echo last", max_output=1000)
        true(result.stdout.startswith(b"first\n") and result.stdout.endswith(b"last\n"), "head and tail are kept")
        true(result.truncated_bytes > 2_990_000, "what was left out is counted")


@in_a_box
def the_variables_of_a_session_can_be_asked_for(box: Sandbox) -> None:
    """`env()` tells what programs started by the shell would see."""
    with box.session() as session:
        session.run("export A='x\ny' PATH=/opt/more:$PATH; hidden=1; export unset; declare -ax list=(1 2); set -eu")
        env = session.env()
        equal(env["A"], "x\ny")
        for more in ("", "f() { echo x; }; export -f f"):
            actual = session.run(f"{more}\n/usr/bin/env -u _ -u SHLVL -u PWD -u OLDPWD -0").output.split("\0")[:-1]
            equal(sorted(f"{name}={value}" for name, value in session.env().items()), sorted(actual))
        true(env["PATH"].startswith("/opt/more:") and "hidden" not in env, "exported ones, and only those")


@in_a_box
def sessions_do_not_share_state(box: Sandbox) -> None:
    """Two sessions of a box have directories and variables of their own, over the same files."""
    with box.session() as one, box.session() as two:
        one.run("cd src; export A=1; echo made > made.txt")
        equal(two.run("pwd; echo ${A-none}; cat src/made.txt").output, f"{box.workdir}\nnone\nmade\n")


@in_a_box
def a_closed_session_says_so(box: Sandbox) -> None:
    """Closing twice is fine; a command after it is an error."""
    session = box.session()
    session.close()
    session.close()
    fails(SandboxClosed, lambda: session.run("true"), "a command after close")
