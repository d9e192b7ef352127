"""Bounds: what a box may use, and what it says when that is not enough."""

from swebench_lab.sandbox.limits import Limits
from swebench_lab.testing.conformance.kit import Opener, equal, needs, true, with_boxes


@with_boxes
def memory_is_bounded_and_the_box_goes_on(open_box: Opener) -> None:
    """A command that wants too much memory fails; the box lives."""
    with open_box(limits=Limits(memory=256 << 20)) as box:
        result = box.run(["python3", "-c", "x = bytearray(10**9)"])
        true(not result.ok, "the command failed")
        true(result.limit == "memory" or b"MemoryError" in result.stdout, f"it is named: {result}")
        equal(box.run("echo on").output, "on\n")


@needs("bounded processes")
@with_boxes
def many_small_hogs_do_not_take_the_box(open_box: Opener) -> None:
    """Memory that many small processes use up together costs them, and neither the box nor the one after it."""
    hog = "sh -c 'x=$(head -c 2000000 /dev/zero | tr \"\\0\" x); sleep 30' &"
    limits = Limits(memory=48 << 20, disk=16 << 20, processes=200)
    with open_box(limits=limits) as box:
        box.run(f"for n in $(seq 40); do {hog} done; sleep 0.3", timeout=5)
        result = box.run("echo on")
        if not result.ok:  # what was left behind had all the memory; now it is gone
            equal(result.limit, "memory")
            result = box.run("echo on")
        equal(result.output, "on\n")
    with open_box(limits=limits) as box:
        equal(box.run("echo on").output, "on\n", "the next box")


@needs("bounded processes")
@with_boxes
def processes_are_bounded_and_the_box_goes_on(open_box: Opener) -> None:
    """A fork bomb fills its own box only, ends at its timeout or by the bound's name, and leaves the box usable."""
    with open_box(limits=Limits(processes=60)) as box:
        result = box.run("bomb() { bomb | bomb & }; bomb; sleep 20", timeout=2)
        true(result.timed_out or (not result.ok and result.limit == "processes"), f"it was ended, by name: {result}")
        equal(box.run("echo on; sleep 0", timeout=30).output, "on\n")


@needs("bounded processes")
@with_boxes
def a_bomb_left_in_the_background_does_not_take_the_box(open_box: Opener) -> None:
    """A fork bomb left behind by a command that has ended gives way to later commands."""
    with open_box(limits=Limits(processes=60)) as box:
        box.run("bomb() { bomb | bomb & }; bomb", timeout=20)
        for _ in range(5):
            if box.run("/bin/true; echo on", timeout=5).output.endswith("on\n"):
                break
        true(box.run("echo on", timeout=10).output.endswith("on\n"), "later commands run")


@needs("disk in sum")
@with_boxes
def disk_is_bounded_and_named(open_box: Opener) -> None:
    """A box that writes too much is told so; after cleaning up it goes on."""
    with open_box(limits=Limits(disk=20 << 20)) as box:
        result = box.run("head -c 50M /dev/zero > big")
        true(not result.ok, "writing failed")
        equal(result.limit, "disk")
        equal(box.run("rm big; echo on > f; cat f").output, "on\n")


@with_boxes
def file_size_is_bounded_and_named(open_box: Opener) -> None:
    """A file beyond the bound ends the command that writes it, with the bound's name."""
    with open_box(limits=Limits(file_size=1 << 20)) as box:
        result = box.run("exec head -c 5M /dev/zero > big")
        equal((result.ok, result.limit), (False, "file size"))
        equal(box.run("stat -c %s big").output.strip(), str(1 << 20))


@with_boxes
def open_files_are_bounded(open_box: Opener) -> None:
    """The number of descriptors of a process is bounded."""
    with open_box(limits=Limits(open_files=100)) as box:
        equal(box.run("ulimit -n").output.strip(), "100")


@needs("shared memory")
@with_boxes
def shared_memory_is_bounded(open_box: Opener) -> None:
    """/dev/shm holds no more than it may."""
    with open_box(limits=Limits(shared_memory=1 << 20)) as box:
        true(not box.run("head -c 2M /dev/zero > /dev/shm/big").ok, "writing more failed")


@with_boxes
def no_core_is_dumped(open_box: Opener) -> None:
    """A crash leaves no core file, and starts no crash handler of the host."""
    with open_box() as box:
        box.run("sh -c 'kill -SEGV $$'; true")
        equal(box.run("ls | grep core").output, "")
        equal(box.run("ulimit -c").output.strip(), "0")
