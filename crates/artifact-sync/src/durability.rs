//! Point at which a store on the local disk counts a change as stored.

/// Point at which a store on the local disk counts a change as stored. Other stores decide that
/// themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// The disk has the change, so it survives a loss of power. A call that changes something waits
    /// for the disk.
    #[default]
    Disk,
    /// The memory of the kernel has the change, so it survives the end of every process. A loss of
    /// power can undo about the last minute, and can make [`MirrorBuilder::refill`] necessary.
    ///
    /// [`MirrorBuilder::refill`]: crate::MirrorBuilder::refill
    Memory,
}
