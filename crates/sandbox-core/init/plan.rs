//! Decoding of the plan, by the layout of `wire`.

use crate::reader::{Reader, Span};
use crate::sys::{CStr, Errno, Result};

/// First part of the plan.
pub struct Head<'a> {
    pub tier: u32,
    pub max_pid: u32,
    pub private_files: u32,
    pub limits: &'a [u8],
    pub bypass_tag: u32,
    pub secret: [u64; 2],
    pub init_filter: &'a [u8],
    pub worker_filter: &'a [u8],
    pub group: GroupSpec<'a>,
    pub settings: Settings<'a>,
}

impl<'a> Head<'a> {
    pub fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let (tier, max_pid, private_files) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let limits = reader.list(20)?;
        let bypass_tag = reader.u32()?;
        let secret = [reader.u64()?, reader.u64()?];
        let (init_filter, worker_filter) = (reader.list(8)?, reader.list(8)?);
        let (group, settings) = (GroupSpec::read(reader)?, Settings::read(reader)?);
        Ok(Self {
            tier,
            max_pid,
            private_files,
            limits,
            bypass_tag,
            secret,
            init_filter,
            worker_filter,
            group,
            settings,
        })
    }
}

/// The part of the plan about the session's control group.
#[derive(Clone, Copy)]
pub struct GroupSpec<'a> {
    /// Empty if the session has no group.
    pub path: CStr<'a>,
    pub max_memory_bytes: u64,
    pub max_processes: u32,
    /// 0 if the time is not limited.
    pub max_processor_us: u64,
}

impl<'a> GroupSpec<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        Ok(Self {
            path: reader.text()?,
            max_memory_bytes: reader.u64()?,
            max_processes: reader.u32()?,
            max_processor_us: reader.u64()?,
        })
    }
}

/// The list of settings of the namespaces. It is empty for a session without namespaces.
#[derive(Clone, Copy)]
pub struct Settings<'a>(&'a [u8]);

/// One setting.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// `BOUND_…`.
    pub flag: u32,
    /// A file below `/proc`.
    pub path: CStr<'a>,
    pub value: CStr<'a>,
}

impl<'a> Settings<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let all = reader.0;
        for _ in 0..reader.u32()? {
            Setting::read(reader)?;
        }
        Ok(Self(&all[..all.len() - reader.0.len()]))
    }

    pub fn iter(self) -> impl Iterator<Item = Setting<'a>> {
        let mut reader = Reader(self.0);
        let count = reader.u32().unwrap_or(0);
        (0..count).map_while(move |_| Setting::read(&mut reader).ok())
    }
}

impl<'a> Setting<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        Ok(Self { flag: reader.u32()?, path: reader.text()?, value: reader.text()? })
    }
}

/// Reads `OP_…`, its argument and its path.
pub fn read_operation<'a>(reader: &mut Reader<'a>) -> Result<(u32, u32, CStr<'a>)> {
    Ok((reader.u32()?, reader.u32()?, reader.text()?))
}

/// Positions of the creation rules in a file, as texts.
pub struct RuleLists {
    /// Patterns of the names that the host watches for.
    pub watched: Span,
    /// Patterns of the names that a denied path can have.
    pub names: Span,
    /// Denied paths.
    pub paths: Span,
    /// Patterns of denied paths.
    pub patterns: Span,
    /// Zones: `wire::ZONE_…` in one byte, and the path of a directory. The deepest comes first.
    pub zones: Span,
}

impl RuleLists {
    /// Reads the lists from `at` in the file.
    pub fn read(file: &[u8], at: usize) -> Result<Self> {
        let mut reader = Reader(file.get(at..).ok_or(Errno::INVAL)?);
        let mut texts = || reader.texts(file);
        let (watched, names, paths, patterns) = (texts()?, texts()?, texts()?, texts()?);
        Ok(Self { watched, names, paths, patterns, zones: texts()? })
    }
}
