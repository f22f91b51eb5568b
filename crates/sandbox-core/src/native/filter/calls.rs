//! The calls that the filters refuse, by their numbers on x86-64.

/// Refused with `EPERM` whatever the arguments.
pub(super) const REFUSED: &[u32] = &[
    139, // sysfs
    153, // vhangup
    155, // pivot_root
    156, // _sysctl
    161, // chroot
    163, // acct
    164, // settimeofday
    166, // umount2
    167, // swapon
    168, // swapoff
    169, // reboot
    170, // sethostname
    171, // setdomainname
    172, // iopl
    173, // ioperm
    174, // create_module
    175, // init_module
    176, // delete_module
    177, // get_kernel_syms
    178, // query_module
    179, // quotactl
    180, // nfsservctl
    212, // lookup_dcookie
    227, // clock_settime
    246, // kexec_load
    248, // add_key
    249, // request_key
    250, // keyctl
    298, // perf_event_open
    300, // fanotify_init
    304, // open_by_handle_at
    305, // clock_adjtime
    308, // setns
    313, // finit_module
    320, // kexec_file_load
    321, // bpf
    323, // userfaultfd
    425, // io_uring_setup
    426, // io_uring_enter
    427, // io_uring_register
    430, // fsopen
    431, // fsconfig
    432, // fsmount
    433, // fspick
    443, // quotactl_fd
    467, // open_tree_attr
];

/// What init and its slots still need after the session's filter is loaded, and a command must not
/// have.
pub(super) const REFUSED_TO_COMMANDS: &[u32] = &[
    165, // mount
    428, // open_tree
    429, // move_mount
    442, // mount_setattr
];

/// Where there are no namespaces, refused with `EPERM` whatever the arguments.
pub(super) const REFUSED_WITHOUT_NAMESPACES: &[u32] = &[
    29,  // shmget
    30,  // shmat
    31,  // shmctl
    41,  // socket
    64,  // semget
    65,  // semop
    66,  // semctl
    68,  // msgget
    69,  // msgsnd
    70,  // msgrcv
    71,  // msgctl
    103, // syslog
    165, // mount
    220, // semtimedop
    240, // mq_open
    241, // mq_unlink
    254, // inotify_add_watch
    428, // open_tree
    429, // move_mount
    442, // mount_setattr
];

/// Calls that change the attributes of a file, which Landlock does not look at.
pub(super) const CHANGES_ATTRIBUTES: &[u32] = &[
    90,  // chmod
    91,  // fchmod
    92,  // chown
    93,  // fchown
    94,  // lchown
    132, // utime
    188, // setxattr
    189, // lsetxattr
    190, // fsetxattr
    197, // removexattr
    198, // lremovexattr
    199, // fremovexattr
    235, // utimes
    260, // fchownat
    261, // futimesat
    268, // fchmodat
    452, // fchmodat2
    463, // setxattrat
    466, // removexattrat
    469, // file_setattr
];

/// Calls on another process of the same user; each with the argument that is 0 for the caller
/// itself.
pub(super) const ON_PROCESSES: &[(u32, u32)] = &[
    (141, 1), // setpriority
    (142, 0), // sched_setparam
    (144, 0), // sched_setscheduler
    (203, 0), // sched_setaffinity
    (251, 1), // ioprio_set
    (302, 0), // prlimit64
    (314, 0), // sched_setattr
];

/// Calls that make a file where a flag says so; each with the argument that has the flags.
pub(super) const MAKES_FILES: &[(u32, u32)] = &[
    (2, 1),   // open
    (257, 2), // openat
];

/// Calls that make a name, or do so by flags that are out of a filter's sight; `mkdirat` stands
/// apart.
pub(super) const MAKES_NAMES: &[u32] = &[
    82,  // rename
    83,  // mkdir
    85,  // creat
    86,  // link
    88,  // symlink
    133, // mknod
    259, // mknodat
    264, // renameat
    265, // linkat
    266, // symlinkat
    316, // renameat2
    437, // openat2
];
