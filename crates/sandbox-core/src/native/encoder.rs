//! Encoder for messages in the layout of `wire`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use policy::{BindAccess, CreationRules, DeniedPath, MountOp, Zone};

use super::overlay::Overlay;
use super::wire;
use crate::sandbox::Limits;

/// A message under construction.
#[derive(Debug, Default)]
pub(super) struct Encoder(pub(super) Vec<u8>);

impl Encoder {
    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("far fewer than four thousand million of anything"));
    }

    /// Writes mount operations, and overlays after them. Private directories get the size of
    /// `limits`.
    pub(super) fn operations(&mut self, ops: &[MountOp], overlays: &[Overlay], limits: &Limits) {
        self.count(ops.len() + 2 * overlays.len());
        for op in ops {
            let access = |access: &BindAccess| match access {
                BindAccess::ReadOnly => wire::READ_ONLY,
                BindAccess::ReadWrite => wire::READ_WRITE,
            };
            let (operation, argument) = match op {
                MountOp::Root => (wire::OP_ROOT, wire::READ_ONLY),
                MountOp::RootWritable => (wire::OP_ROOT, wire::READ_WRITE),
                MountOp::Private { .. } => (wire::OP_PRIVATE, limits.tmp_mib),
                MountOp::HideDirectory { contains_mounts: false, .. } => {
                    (wire::OP_HIDE_DIRECTORY, 0)
                }
                MountOp::HideDirectory { contains_mounts: true, .. } => (wire::OP_HIDE_AROUND, 0),
                MountOp::HideFile { .. } => (wire::OP_HIDE_FILE, 0),
                MountOp::Bind { access: how, .. } => (wire::OP_BIND, access(how)),
                MountOp::PinLink { .. } => (wire::OP_PIN_LINK, wire::READ_ONLY),
                // Init fails on an unknown operation.
                _ => (u32::MAX, 0),
            };
            self.u32(operation);
            self.u32(argument);
            self.text(op.path().unwrap_or(Path::new("/")).as_os_str().as_bytes());
        }
        for Overlay { target, source } in overlays {
            for (operation, path) in [(wire::OP_SOURCE, source), (wire::OP_OVERLAY, target)] {
                self.u32(operation);
                self.u32(wire::READ_ONLY);
                self.text(path.as_os_str().as_bytes());
            }
        }
    }

    /// Writes a filter of 8-byte instructions.
    pub(super) fn filter(&mut self, filter: &[u8]) {
        self.count(filter.len() / 8);
        self.0.extend_from_slice(filter);
    }

    /// Writes the rules that init applies when a command creates a path.
    pub(super) fn creation_rules(&mut self, rules: &CreationRules) {
        let names = rules.intercepted_names();
        let paths: Vec<PathBuf> = rules.denied_paths.iter().map(DeniedPath::path).collect();
        self.texts(rules.watched_names.iter().map(Vec::as_slice));
        self.texts(names.iter().map(Vec::as_slice));
        self.texts(paths.iter().map(|path| path.as_os_str().as_bytes()));
        self.texts(rules.denied_patterns.iter().map(Vec::as_slice));
        self.zones(&rules.zones);
    }

    /// Writes the zones after the other creation rules.
    fn zones(&mut self, zones: &[Zone]) {
        self.count(zones.len());
        for Zone { dir, kind, .. } in zones {
            let kind = match (kind.denies_repositories(), kind.denies_links()) {
                (true, true) => wire::ZONE_GIT_CONTAINER,
                (true, false) => wire::ZONE_NO_REPOSITORIES,
                (false, true) => wire::ZONE_GIT_DIRECTORY,
                (false, false) => wire::ZONE_FREE,
            };
            let kind = u8::try_from(kind).expect("the numbers of zones are small");
            self.text(&[&[kind], dir.as_os_str().as_bytes()].concat());
        }
    }

    fn texts<'t>(&mut self, texts: impl ExactSizeIterator<Item = &'t [u8]>) {
        self.count(texts.len());
        texts.for_each(|text| self.text(text));
    }

    pub(super) fn text(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
        self.0.push(0);
    }
}
