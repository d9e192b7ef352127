"""Attacks from within a box on the kernel, devices, rights and the network."""

from __future__ import annotations

from swebench_lab.testing.redteam.attack import Attack

KERNEL = (
    Attack(
        "kernel settings",
        "kernel",
        "Change /proc/sys, sysrq and other kernel files.",
        # Every value written is the one that is there, or does nothing: success would be seen, and would harm nobody.
        program="""
            cd /proc/sys && for f in kernel/{core_pattern,modprobe,hostname,sysrq,pid_max} vm/swappiness fs/file-max
            do [ -e $f ] && v=$(cat $f) && { echo "$v" >$f; } 2>/dev/null && echo "GAINED write to /proc/sys/$f"
            done
            echo h >/proc/sysrq-trigger && echo GAINED sysrq
            for f in /proc/irq/default_smp_affinity /proc/mtrr /proc/acpi/wakeup /proc/dynamic_debug/control; do
            [ -w $f ] && { : >>$f; } 2>/dev/null && echo GAINED write to $f
            done
            for f in /proc/kcore /proc/kmsg /proc/keys /proc/timer_list /proc/sched_debug /proc/slabinfo; do
            timeout 1 head -c 16 $f 2>/dev/null | grep -qa . && echo GAINED read of $f
            done
            head -n 1000 /proc/kallsyms 2>/dev/null | grep -vq '^0000000000000000' && echo GAINED kernel addresses
            true
        """,
    ),
    Attack(
        "kernel file systems",
        "kernel",
        "Read or write sysfs, debugfs, cgroups and firmware variables.",
        program="""
            ls /sys/{kernel,class,firmware,fs/cgroup} 2>/dev/null | grep -q . && echo GAINED $(ls /sys | head -5)
            find /sys -type f -writable 2>/dev/null | head -3 | sed 's/^/GAINED writable /'
            mkdir /sys/fs/cgroup/lab && echo GAINED a cgroup
            true
        """,
    ),
    Attack(
        "calls for administrators",
        "kernel",
        "Use the system calls that load code into the kernel or change the machine.",
        script="""
            x86 = platform.machine() == 'x86_64'
            def number(first, second):
                return first if x86 else second
            null = ctypes.c_void_p(0)
            refused('init_module', number(175, 105), null, 0, b'')
            refused('finit_module', number(313, 273), -1, b'', 0)
            refused('kexec_load', number(246, 104), 0, 0, null, 0)
            refused('reboot', number(169, 142), 0, 0, 0, null)
            refused('swapon', number(167, 224), b'/nonexistent', 0)
            refused('acct', number(163, 89), b'/nonexistent')
            refused('settimeofday', number(164, 170), null, null)
            refused('clock_settime', number(227, 112), 0, null)
            refused('bpf', number(321, 280), 0, null, 0)
            refused('perf_event_open', number(298, 241), null, 0, -1, -1, 0)
            refused('userfaultfd', number(323, 282), 0)
            refused('io_uring_setup', 425, 8, null)
            refused('syslog', number(103, 116), 3, null, 0)
            refused('fanotify_init', number(300, 262), 0, 0)
            refused('quotactl', number(179, 60), 0, null, 0, null)
            refused('kcmp', number(312, 272), 1, 1, 0, 0, 0)
            refused('sethostname', number(170, 161), b'x', 1)
            if x86:
                refused('iopl', 172, 3)
                refused('ioperm', 173, 0x80, 1, 1)
                refused('modify_ldt', 154, 0, null, 0)
        """,
    ),
    Attack(
        "new namespaces",
        "kernel",
        "Become root of a user namespace, or enter namespaces of others.",
        script="""
            x86 = platform.machine() == 'x86_64'
            def number(first, second):
                return first if x86 else second
            null = ctypes.c_void_p(0)
            flags = dict(user=0x10000000, mount=0x20000, pid=0x20000000, net=0x40000000, ipc=0x8000000, uts=0x4000000,
                         cgroup=0x2000000, time=0x80)
            for name, flag in flags.items():
                if os.fork() == 0:
                    refused(f'unshare of {name}', number(272, 97), flag)
                    os._exit(0)
                os.wait()
                if name != 'time':
                    clone = ctypes.c_long(number(56, 220))
                    child = libc.syscall(clone, ctypes.c_long(flag | 17), null, null, null, null)
                    if child == 0:
                        os._exit(0)
                    if child > 0:
                        print('GAINED clone into', name)
                        os.waitpid(child, 0)
                arguments = ctypes.create_string_buffer(struct.pack('11Q', flag, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0))
                child = libc.syscall(ctypes.c_long(435), arguments, ctypes.c_size_t(88))
                if child == 0:
                    os._exit(0)
                if child > 0:
                    print('GAINED clone3 into', name)
                    os.waitpid(child, 0)
            for path in glob.glob('/proc/*/ns/*'):
                try:
                    fd = os.open(path, os.O_RDONLY)
                except OSError:
                    continue
                refused('setns to ' + path, number(308, 268), fd, 0)
        """,
    ),
    Attack(
        "mounts",
        "kernel",
        "Mount, move and unmount file systems, to uncover or to change what is there.",
        script="""
            x86 = platform.machine() == 'x86_64'
            def number(first, second):
                return first if x86 else second
            null = ctypes.c_void_p(0)
            import tempfile
            m = tempfile.mkdtemp().encode()
            for source, target, kind, flags in (
                    (b'none', m, b'tmpfs', 0), (b'proc', m, b'proc', 0), (b'none', m, b'sysfs', 0),
                    (b'none', m, b'cgroup2', 0), (b'none', m, b'devtmpfs', 0), (b'/proc', m, None, 4096),
                    (None, b'/usr', None, 32 | 4096), (None, b'/', None, 32), (None, b'/proc/sys', None, 32 | 4096)):
                call = number(165, 40)
                refused(f'mount of {kind} at {target}', call, source, target, kind, ctypes.c_ulong(flags), None)
            for place in (b'/proc/sys', b'/proc/kcore', b'/usr', b'/dev', b'/proc', b'/'):
                refused(f'umount of {place}', number(166, 39), place, 2)
            refused('open_tree', 428, -100, b'/', 1)
            refused('fsopen', 430, b'tmpfs', 0)
            refused('fspick', 433, -100, b'/', 0)
            refused('move_mount', 429, -100, b'/tmp', -100, m, 0)
            refused('mount_setattr', 442, -100, b'/usr', 0, null, 0)
            refused('pivot_root', number(155, 41), b'/', b'/tmp')
        """,
    ),
    Attack(
        "foreign system calls",
        "kernel",
        "Get past the filter with the numbers of another architecture.",
        script=r"""
            x86 = platform.machine() == 'x86_64'
            def number(first, second):
                return first if x86 else second
            null = ctypes.c_void_p(0)
            import mmap
            if x86:
                refused('unshare by its x32 number', 0x40000000 + 272, 0x10000000)
                refused('ptrace by its x32 number', 0x40000000 + 521, 0, 0, 0, 0)
                code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
                def compat(n, first):
                    code.seek(0)
                    # push rbx; mov eax, n; mov ebx, first; xor ecx, ecx; xor edx, edx; int 0x80; pop rbx; ret
                    code.write(b'\x53\xb8' + struct.pack('<I', n) + b'\xbb' + struct.pack('<I', first))
                    code.write(b'\x31\xc9\x31\xd2\xcd\x80\x5b\xc3')
                    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
                for name, n, first in (('getpid', 20, 0), ('unshare', 310, 0x10000000), ('ptrace', 26, 0)):
                    child = os.fork()
                    if child == 0:
                        result = compat(n, first)
                        if result >= 0:
                            print('GAINED', name, 'of the 32-bit interface:', result, flush=True)
                        os._exit(0)
                    os.waitpid(child, 0)
        """,
    ),
    Attack(
        "type into a terminal",
        "kernel",
        "Push input into a terminal of the host.",
        script="""
            import fcntl
            for path in ('/dev/tty', '/dev/pts/0', '/dev/console', '/dev/tty0', '/dev/tty1'):
                try:
                    fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
                except OSError:
                    continue
                for request in (0x5412, 0x541C, 0x5412 | 1 << 32):
                    attempt(f'ioctl {request:#x} on {path}', lambda: libc.ioctl(fd, ctypes.c_ulong(request), b'x'))
            try:
                master, slave = os.openpty()
            except OSError:
                sys.exit()
            for request in (0x5412, 0x541C):
                attempt(f'ioctl {request:#x}', lambda: libc.ioctl(slave, ctypes.c_ulong(request), b'x'))
        """,
    ),
)

DEVICES = (
    Attack(
        "device nodes",
        "devices",
        "Make the nodes of disks and memory and read through them.",
        script="""
            import stat
            disks = [(stat.S_IFBLK, major, 0) for major in (254, 8, 7, 259)]
            others = [(stat.S_IFCHR, *numbers) for numbers in ((1, 1), (1, 4), (1, 11), (10, 229), (10, 232))]
            for kind, major, minor in disks + others:
                for folder in ('/tmp', '/dev/shm', '/testbed', '/dev', '.'):
                    path = f'{folder}/node-{major}-{minor}-{kind}'
                    try:
                        os.mknod(path, kind | 0o666, os.makedev(major, minor))
                        print('GAINED node', path)
                        open(path, 'rb').read(1)
                        print('GAINED read of', path)
                    except OSError:
                        pass
        """,
    ),
    Attack(
        "devices of the host",
        "devices",
        "Open disks, memory, consoles and virtualisation through what is in /dev.",
        script="""
            import stat
            harmless = {'null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx'}
            for folder, _, names in os.walk('/dev'):
                for name in names:
                    path = os.path.join(folder, name)
                    try:
                        mode = os.stat(path).st_mode
                        if not (stat.S_ISBLK(mode) or stat.S_ISCHR(mode)) or name in harmless or folder == '/dev/pts':
                            continue
                        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY))
                        print('GAINED', path)
                    except OSError:
                        pass
        """,
    ),
)

RIGHTS = (
    Attack(
        "capabilities",
        "rights",
        "Hold capabilities that reach beyond the box.",
        script="""
            names = dict(dac_read_search=2, linux_immutable=9, net_admin=12, net_raw=13, ipc_lock=14, sys_module=16,
                sys_rawio=17, sys_chroot=18, sys_ptrace=19, sys_pacct=20, sys_admin=21, sys_boot=22, sys_nice=23,
                sys_resource=24, sys_time=25, sys_tty_config=26, mknod=27,
                audit_control=30, mac_override=32, mac_admin=33, syslog=34, perfmon=38, bpf=39, checkpoint_restore=40)
            header, data = struct.pack('=Ii', 0x20080522, 0), ctypes.create_string_buffer(24)
            libc.capget(ctypes.create_string_buffer(header), data)
            words = struct.unpack('=6I', data.raw)
            for kind, low, high in (('effective', 0, 3), ('permitted', 1, 4), ('inheritable', 2, 5)):
                held = words[low] | words[high] << 32
                for name, bit in names.items():
                    if held >> bit & 1:
                        print('GAINED', kind, name)
            if libc.prctl(39, 0, 0, 0, 0) != 1:
                print('GAINED new privileges by exec')
            if libc.prctl(21, 0, 0, 0, 0) != 2:
                print('GAINED every system call')
        """,
    ),
    Attack(
        "set-user-id programs",
        "rights",
        "Gain rights by executing set-user-id programs of the host and of its own.",
        program="""
            t=${TMPDIR:-/tmp}
            cp /bin/bash $t/sh
            chmod 4755 $t/sh
            before=$(grep CapEff /proc/self/status)
            after=$($t/sh -p -c 'grep CapEff /proc/self/status')
            [ "$before" = "$after" ] || echo "GAINED $before became $after"
            true
        """,
        script="""
            shell = os.environ.get('TMPDIR', '/tmp') + '/sh'
            others = [path for path in glob.glob('/usr/bin/*') if os.stat(path).st_mode & 0o4000]
            child = os.fork()
            if child == 0:
                try:
                    if os.getuid() == 0:
                        os.setresuid(65534, 65534, 65534)
                    if os.getuid() != 0:
                        os.execv(shell, ['sh', '-p', '-c', '[ $UID = $EUID ] || echo GAINED another user'])
                except OSError:
                    pass
                os._exit(0)
            os.waitpid(child, 0)
            for path in others[:20]:
                fd, away = os.pipe()
                child = os.fork()
                if child == 0:
                    os.dup2(away, 1)
                    os.dup2(away, 2)
                    os.close(0)
                    os.execv(path, [path, '--version'])
                time.sleep(0.02)
                try:
                    if os.stat(f'/proc/{child}').st_uid == 0 != os.getuid():
                        print('GAINED root by', path, flush=True)
                    os.kill(child, 9)
                except OSError:
                    pass
                os.waitpid(child, 0)
                os.close(fd)
                os.close(away)
        """,
        then=lambda ground, _: _set_user_id_on_host(ground),
    ),
    Attack(
        "lower the walls",
        "rights",
        "Take off the filter, the process's bounds and its marks.",
        script="""
            import resource
            attempt('no_new_privs taken off', lambda: libc.prctl(38, 0, 0, 0, 0))
            attempt('securebits', lambda: libc.prctl(28, 0x2f, 0, 0, 0))
            attempt('an ambient capability', lambda: libc.prctl(47, 2, 21, 0, 0))
            soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
            endless = (resource.RLIM_INFINITY,) * 2
            attempt('core dumps', lambda: resource.setrlimit(resource.RLIMIT_CORE, endless) or 1)
            def spared():
                with open('/proc/self/oom_score_adj', 'w') as file:
                    file.write('-1000')
                return 1 if open('/proc/self/oom_score_adj').read().strip() == '-1000' else -1
            attempt('protection from the memory killer', spared)
        """,
    ),
)

NETWORK = (
    Attack(
        "the host's loopback",
        "network",
        "Reach services on the host's loopback, by TCP and UDP, IPv4 and IPv6.",
        script="""
            four = (socket.AF_INET, '127.0.0.1', 'LAB_IP4_TCP', 'LAB_IP4_UDP')
            for family, host, tcp, udp in (four, (socket.AF_INET6, '::1', 'LAB_IP6_TCP', '')):
                for kind, variable in ((socket.SOCK_STREAM, tcp), (socket.SOCK_DGRAM, udp)):
                    port = int(os.environ.get(variable, 0))
                    if not port:
                        continue
                    try:
                        made = socket.socket(family, kind)
                        made.settimeout(2)
                        made.connect((host, port))
                        made.send(b'x')
                    except OSError:
                        pass
                    try:
                        made = socket.socket(family, kind)
                        made.settimeout(2)
                        made.sendto(b'x', 0x20000000, (host, port))
                    except OSError:
                        pass
            for protocol in (132, 256, 262):
                for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
                    try:
                        made = socket.socket(socket.AF_INET, kind, protocol)
                        made.settimeout(2)
                        made.connect(('127.0.0.1', int(os.environ['LAB_IP4_TCP'])))
                    except OSError:
                        pass
        """,
    ),
    Attack(
        "sockets of the host",
        "network",
        "Reach services of the host by a socket file and by an abstract name.",
        script=r"""
            for address in (os.environ['LAB_SOCKET'], '\0' + os.environ['LAB_ABSTRACT']):
                for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
                    try:
                        made = socket.socket(socket.AF_UNIX, kind)
                        made.settimeout(2)
                        made.connect(address)
                    except OSError:
                        pass
                    try:
                        socket.socket(socket.AF_UNIX, kind).sendto(b'x', address)
                    except OSError:
                        pass
            for name in ('docker.sock', 'containerd/containerd.sock', 'dbus/system_bus_socket', 'crio/crio.sock'):
                path = '/run/' + name
                attempt(path, lambda: socket.socket(socket.AF_UNIX).connect(path) or 1)
        """,
    ),
    Attack(
        "outside",
        "network",
        "Find an interface or a route that leads anywhere but to itself.",
        # Nothing is contacted: a way out would show in the tables.
        script="""
            try:
                names = [name for _, name in socket.if_nameindex()]
            except OSError:
                names = []
            other = [name for name in names if name != 'lo']
            reachable = False
            try:
                probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                probe.connect(('192.0.2.1', 9))
                reachable = True
            except OSError:
                pass
            if reachable:
                print('GAINED a route out', other)
            if other:
                print('GAINED interfaces', other)
        """,
    ),
    Attack(
        "raw and odd sockets",
        "network",
        "Open packet, raw, virtual machine, crypto and other uncommon sockets.",
        script="""
            for name, family, kind, protocol in (
                    ('packet', 17, 3, 768), ('raw', 2, 3, 1), ('raw IPv6', 10, 3, 58),
                    ('vsock', 40, 1, 0), ('alg', 38, 5, 0),
                    ('bluetooth', 31, 1, 3), ('can', 29, 3, 1), ('rds', 21, 5, 0), ('tipc', 30, 1, 0),
                    ('xdp', 44, 3, 0),
                    ('key', 15, 3, 2), ('smc', 43, 1, 0)):
                attempt(name + ' socket', lambda: socket.socket(family, kind, protocol).fileno())
        """,
    ),
    Attack(
        "change the network",
        "network",
        "Add addresses, routes and interfaces by netlink and ioctl.",
        script=r"""
            try:
                control = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
                control.settimeout(2)
                name = struct.pack('=HH', 9, 3) + b'lab0\0\0\0\0'
                kind = struct.pack('=HHHH', 14, 18, 9, 1) + b'dummy\0\0\0'
                body = struct.pack('=BxHiII', 0, 0, 0, 0, 0) + name + kind
                control.send(struct.pack('=IHHII', 16 + len(body), 16, 0x605, 1, 0) + body)
                reply = control.recv(4096)
                if struct.unpack_from('=i', reply, 16)[0] == 0:
                    print('GAINED a new interface')
            except OSError:
                pass
            import fcntl
            try:
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
                    request = struct.pack('16sHH4s8x', b'lo', 2, 0, bytes([10, 9, 8, 7]))
                    attempt('an address on lo', lambda: fcntl.ioctl(made, 0x8916, request) and 1)
            except OSError:
                pass
        """,
    ),
)


def _set_user_id_on_host(ground: object) -> str:
    """Look for set-user-id files that a box left on the host where another user could execute them."""
    import os
    import stat
    from pathlib import Path

    scratch = getattr(ground, "sandboxes").scratch  # noqa: B009
    for folder, _, names in os.walk(scratch) if scratch else ():
        for name in names:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            reachable = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
            if stat.S_ISREG(mode) and mode & stat.S_ISUID and path.stat().st_uid == 0 and reachable:
                return f"{path}: a set-user-id program of root that any user of the host can execute"
    return ""
