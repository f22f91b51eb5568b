#!/bin/bash
# The first process of the machine whose power is lost. The kernel's command line sets the variables
# of the test. It is on the disk, because it stores its files there.
export PATH=/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=1777 tmpfs /tmp
until [[ -b /dev/nvme0n1 ]]; do sleep 0.1; done
# The journal of the file system is written on request only, so that everything else is lost.
mount -t ext4 -o commit=300 /dev/nvme0n1 /mnt
/mnt/tests --exact power::machine::acknowledged_changes_survive_a_loss_of_power --nocapture
echo "ended with $?"
echo o > /proc/sysrq-trigger
sleep 60
