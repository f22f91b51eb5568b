//! Ways to the user's git that take several sandboxes, or settings of the user.

/// An attack on the user's git.
pub(super) struct Sequence {
    pub(super) name: &'static str,
    /// Script of the user before, which starts in `user`.
    pub(super) setup: &'static str,
    /// Scripts of commands, each in a sandbox of its own. They start in `user`.
    pub(super) attack: &'static [&'static str],
    /// Script of the user afterwards, which starts in `user`.
    pub(super) user: &'static str,
}

const fn sequence(
    name: &'static str,
    setup: &'static str,
    attack: &'static [&'static str],
    user: &'static str,
) -> Sequence {
    Sequence { name, setup, attack, user }
}

const PUSH: &str = "cd checkout; git push -q ../bare.git HEAD:refs/heads/pushed";
/// Script that wins a race against the early denial: one thread changes the name in memory while
/// another one creates the symlink to `VICTIM`. Begins with the value of `evil`.
pub(super) const RACE: &str = "
import ctypes, os, threading, time
libc = ctypes.CDLL(None)
good = 'z' * len(evil)
bad, good = evil.encode(), good.encode()
name = ctypes.create_string_buffer(good)
stop = False
def flip():
    while not stop:
        ctypes.memmove(name, bad, len(bad)); ctypes.memmove(name, good, len(bad))
thread = threading.Thread(target=flip); thread.start()
until = time.monotonic() + 20
while not os.path.islink(evil) and time.monotonic() < until:
    libc.symlink(b'VICTIM', name)
    if os.path.lexists(good): os.unlink(good)
stop = True; thread.join()
print('won' if os.path.islink(evil) else 'lost')
";
const COMMIT: &str = "cd checkout; git commit -q --allow-empty -m x";
const STATUS: &str = "cd checkout; git status";

pub(super) const SEQUENCES: &[Sequence] = &[
    sequence(
        "older symbolic ref in a moved directory",
        "",
        &[
            "cd checkout; o=$(git rev-parse origin/main); mkdir -p .git/q .git/$o/objects \
             .git/$o/refs; config > .git/$o/config; echo 'ref: commondir' > .git/q/main",
            "cd checkout; mv .git/q .git/refs/heads/x; echo 'ref: refs/heads/x/main' > .git/HEAD",
        ],
        "cd checkout; git fetch -q; git reset -q --hard origin/main; git status",
    ),
    sequence(
        "chain of symbolic refs to an older one",
        "",
        &[
            "cd checkout; o=$(git rev-parse origin/main); mkdir -p .git/q/deep .git/$o/objects \
             .git/$o/refs; config > .git/$o/config; echo 'ref: commondir' > .git/q/deep/main",
            "cd checkout; mv .git/q .git/refs/x; echo 'ref: refs/x/deep/main' > \
             .git/refs/heads/y; echo 'ref: refs/heads/y' > .git/HEAD",
        ],
        "cd checkout; git fetch -q; git reset -q --hard origin/main; git status",
    ),
    sequence(
        "bare repository that is taken apart",
        "",
        &[
            "cd bare.git; mv HEAD h; mv refs r2",
            "cd bare.git; hook hooks/pre-receive; mv h HEAD; mv r2 refs",
        ],
        PUSH,
    ),
    sequence(
        "bare repository of which all is renamed",
        "",
        &[
            "cd bare.git; mv HEAD h; mv refs r2; mv objects o2",
            "cd bare.git; hook hooks/pre-receive; mv h HEAD; mv r2 refs; mv o2 objects",
        ],
        PUSH,
    ),
    sequence(
        "bare repository without hooks and configuration",
        "rm -rf bare.git/hooks bare.git/config",
        &[
            "cd bare.git; mv HEAD h; mv refs r2",
            "cd bare.git; mkdir hooks; hook hooks/pre-receive; mv h HEAD; mv r2 refs",
        ],
        PUSH,
    ),
    sequence(
        "bare repository that the user repairs",
        "",
        &["cd bare.git; mv HEAD h; mv refs r2", "cd bare.git; hook hooks/pre-receive"],
        "cd bare.git; cp h HEAD; [ ! -e r2 ] || mv r2 refs; cd ..; cd checkout; \
         git push -q ../bare.git HEAD:refs/heads/pushed",
    ),
    sequence(
        "target of a pointer that the user repairs",
        "mkdir store; mv husky/.git store/g; echo 'gitdir: ../store/g' > husky/.git",
        &["cd store/g; mv HEAD h", "cd store/g; config > config; hook hooks/pre-commit"],
        "cp store/g/h store/g/HEAD; cd husky; git status; git config core.hooksPath; git commit \
         -q --allow-empty -m x",
    ),
    sequence(
        "target of a pointer without anything but its settings",
        "mkdir store; mv husky/.git store/g; echo 'gitdir: ../store/g' > husky/.git",
        &[
            "cd store/g; mkdir k; mv HEAD objects refs k",
            "cd store/g; config > config; hook hooks/pre-commit",
        ],
        "mv store/g/k/* store/g/; cd husky; git status; git commit -q --allow-empty -m x",
    ),
    sequence(
        "worktree that the user repairs",
        "",
        &[
            "cd checkout/.git/worktrees/wt; mv HEAD h",
            "cd checkout/.git/worktrees/wt; config > config.worktree",
        ],
        "cd checkout/wt; d=../.git/worktrees/wt; cp $d/h $d/HEAD; git status",
    ),
    sequence(
        "submodule that the user repairs",
        "",
        &[
            "cd checkout/.git/modules/sub; mkdir k; mv HEAD objects refs k",
            "cd checkout/.git/modules/sub; config >> config",
        ],
        "cd checkout/.git/modules/sub; mv k/* .; cd ../../../sub; git status",
    ),
    sequence(
        "program in a directory with a blank in its name",
        "cd checkout; mkdir 'my tools'; echo exit 0 > 'my tools/fsm'; chmod +x 'my tools/fsm'; \
         git config core.fsmonitor '\"my tools/fsm\"'",
        &["hook 'checkout/my tools/fsm'"],
        STATUS,
    ),
    sequence(
        "program with an escaped blank in its name",
        "cd checkout; mkdir 'my tools'; echo exit 0 > 'my tools/fsm'; chmod +x 'my tools/fsm'; \
         git config core.fsmonitor 'my\\ tools/fsm'",
        &["hook 'checkout/my tools/fsm'"],
        STATUS,
    ),
    sequence(
        "program in quotes in quotes",
        "cd checkout; mkdir 'my tools'; echo exit 0 > 'my tools/fsm'; chmod +x 'my tools/fsm'; \
         git config core.fsmonitor \"sh -c \\\"'my tools/fsm'\\\"\"",
        &["hook 'checkout/my tools/fsm'"],
        STATUS,
    ),
    sequence(
        "program in a directory that a command enters",
        "cd checkout; cp tools/clean.sh tools/fsm; git config core.fsmonitor 'cd tools && ./fsm'",
        &["hook checkout/tools/fsm"],
        STATUS,
    ),
    sequence(
        "script in a directory behind an expansion that a command enters",
        "cd checkout; mkdir tools/in; git config core.fsmonitor \
         'cd \"$(git rev-parse --show-toplevel)\"/tools; cd in; sh fsm'",
        &["hook checkout/tools/in/fsm"],
        STATUS,
    ),
    sequence(
        "directory that python runs",
        "cd checkout; echo pass > tools/__main__.py; git config core.fsmonitor 'python3 tools'",
        &["echo \"open('CANARY', 'w')\" > checkout/tools/__main__.py"],
        STATUS,
    ),
    sequence(
        "module that python runs",
        "cd checkout; echo pass > tools/fsm.py; git config core.fsmonitor 'python3 -m tools.fsm'",
        &["echo \"open('CANARY', 'w')\" > checkout/tools/fsm.py"],
        STATUS,
    ),
    sequence(
        "directory of a makefile",
        "cd checkout; git config core.fsmonitor 'make -s -C tools'",
        &["printf '%%:\\n\\ttouch CANARY\\n' > checkout/tools/Makefile"],
        STATUS,
    ),
    sequence(
        "absent script without a directory",
        "cd checkout; git config core.fsmonitor 'sh fsm.sh'",
        &["hook checkout/fsm.sh"],
        STATUS,
    ),
    sequence(
        "absent script without a suffix",
        "cd checkout; git config core.fsmonitor 'env A=1 sh -e fsm'",
        &["hook checkout/fsm"],
        STATUS,
    ),
    sequence(
        "absent program for recent objects",
        "git -C checkout config gc.recentObjectsHook tools/recent; cd checkout; \
         git commit -q --allow-empty -m x; git reset -q --hard HEAD~1",
        &["hook checkout/tools/recent"],
        "cd checkout; git reflog expire --expire=now --all; git gc -q --prune=now",
    ),
    sequence(
        "hooks in the home directory of a user by name",
        "mkdir hk; echo exit 0 > hk/pre-commit; chmod +x hk/pre-commit; \
         h=$(getent passwd \"$(id -un)\" | cut -d: -f6); u=$PWD; r=; \
         while [ \"$h\" != / ] && [ \"$h\" ]; do r=../$r; h=${h%/*}; [ \"$h\" ] || break; done; \
         git -C checkout config core.hooksPath \"~$(id -un)/$r${u#/}/hk\"",
        &["hook hk/pre-commit"],
        COMMIT,
    ),
    sequence(
        "hooks in a work tree that a setting names",
        "mkdir tree tree/hk; mv husky/.git g.git; rm -rf husky; echo exit 0 > tree/hk/pre-commit; \
         chmod +x tree/hk/pre-commit; git --git-dir=g.git config core.hooksPath hk; \
         git --git-dir=g.git config core.worktree \"$PWD/tree\"",
        &["hook tree/hk/pre-commit"],
        "cd g.git; git commit -q --allow-empty -m x",
    ),
    sequence(
        "absent program in a work tree that a setting names",
        "mkdir tree tree/tools; mv husky/.git g.git; rm -rf husky; \
         git --git-dir=g.git config --unset core.hooksPath; \
         git --git-dir=g.git config core.fsmonitor tools/f; \
         git --git-dir=g.git config core.worktree ../tree",
        &["hook tree/tools/f"],
        "cd g.git; git status",
    ),
];
