#!/bin/bash
# The first process of the machine. The engine leaves a root by pivot_root(2), which the kernel's
# first root does not allow, so everything moves to another root.
if [[ $1 != again ]]; then
    mount -t tmpfs -o mode=755 tmpfs /new
    cp -a /bin /dev /etc /home /init /lib /lib64 /mnt /modules /opt /proc /root /run /sbin /srv \
        /sys /tmp /usr /var /*-tests /new
    cd /new
    mount --move . /
    exec chroot . /init again
fi

export PATH=/usr/bin:/usr/sbin HOME=/root PROPTEST_RNG_SEED=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
chmod 1777 /var/tmp
ln -s /proc/self/fd /dev/fd
# SIOCSIFFLAGS: brings loopback up.
perl -MSocket -e 'socket(my $s, AF_INET, SOCK_DGRAM, 0); my $up = pack("a16 s x22", "lo", 1);
    ioctl($s, 0x8914, $up) or die $!'

# finit_module(2), by which kmod would load the modules.
number=313
[[ $(uname -m) != aarch64 ]] || number=273
for module in $(find /modules -name '*.ko' | sort); do
    perl -e 'my ($number, $path) = @ARGV; my $none = ""; open(my $file, "<", $path) or die $!;
        syscall($number + 0, fileno($file), $none, 0) == 0 or print "$path: $!\n"' $number $module
done

# The mount and the delegation of systemd.
groups=/sys/fs/cgroup
mount -t cgroup2 -o nsdelegate cgroup2 $groups
echo +memory +pids > $groups/cgroup.subtree_control
delegated=$groups/delegated
mkdir $delegated $delegated/host
chown nobody $delegated{,/host}{,/cgroup.procs,/cgroup.threads,/cgroup.subtree_control}

# The kernel's command line has the arguments of each run of the tests, separated by commas.
arguments_of() {
    local line
    read -r line < /proc/cmdline
    line=${line##* "$1"=}
    IFS=, read -ra arguments <<< "${line%% *}"
}

read -r line < /proc/cmdline
[[ $line != *" emulated "* ]] || export SANDBOX_CORE_TEST_EMULATED=1
uname -rm
/sandbox-core-library-tests
echo "of the library: $?"
arguments_of mirrors
if ((${#arguments[@]})); then
    ARTIFACT_SYNC_SEQUENCES=40 /artifact-sync-tests --show-output "${arguments[@]}"
    echo "of mirrors: $?"
fi
export SANDBOX_CORE_TEST_GROUPS=1
arguments_of root
/sandbox-core-tests --show-output "${arguments[@]}"
echo "as root: $?"

cd /
echo $$ > $delegated/host/cgroup.procs
# Sessions see this directory unchanged, and an ordinary user needs one to create files in.
chmod 1777 /mnt
export SANDBOX_CORE_TEST_BASE=/mnt
arguments_of ordinary
HOME=/nonexistent setpriv --reuid=65534 --regid=65534 --clear-groups -- \
    /sandbox-core-tests --show-output "${arguments[@]}"
echo "as an ordinary user with a delegated group: $?"

echo o > /proc/sysrq-trigger
sleep 60
