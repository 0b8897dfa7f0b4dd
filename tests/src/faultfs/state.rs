//! The tree of files and directories, its room, and what it is told to do wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

use fastrand::Rng;
use fuser::Errno;

use super::contents::{BLOCK_BYTES, Contents};
use super::fault::{Call, Fault, How, Lie};
use super::loss::{Lost, Style};
use super::names::Names;

/// The root directory's number.
pub(super) const ROOT: u64 = 1;

pub(super) type Result<T> = std::result::Result<T, Errno>;

/// A file or a directory.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) mode: u16,
    /// What it was called last: faults choose by it.
    name: String,
    opens: u32,
}

#[derive(Debug)]
pub(super) enum Kind {
    File(Contents),
    Directory(Names),
}

/// Everything that is on the disk or on its way there.
#[derive(Debug)]
pub(super) struct State {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    /// Blocks of room.
    pub(super) capacity: u64,
    /// What calls fail with where there is no room.
    pub(super) full: Errno,
    lie: Lie,
    pub(super) faults: Vec<Fault>,
    /// Calls that a fault hit.
    pub(super) hits: u64,
    /// Calls so far, by kind.
    pub(super) calls: BTreeMap<Call, u64>,
}

impl State {
    pub(super) fn new(capacity_bytes: u64) -> Self {
        let root = Node { kind: Kind::Directory(Names::default()), mode: 0o755, name: "/".into(), opens: 0 };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            capacity: capacity_bytes / BLOCK_BYTES,
            full: Errno::ENOSPC,
            lie: Lie::Never,
            faults: Vec::new(),
            hits: 0,
            calls: BTreeMap::new(),
        }
    }

    /// From now on syncs are answered as that lie says. What is there by now is durable.
    pub(super) fn set_lie(&mut self, lie: Lie) {
        for node in self.nodes.values_mut() {
            match &mut node.kind {
                Kind::File(contents) => contents.sync(),
                Kind::Directory(names) => names.sync(),
            }
        }
        self.lie = lie;
    }

    /// Counts a call on a file; what a fault makes of it.
    pub(super) fn call(&mut self, call: Call, node: u64) -> Result<Option<How>> {
        let name = self.name(node).to_owned();
        let result = self.call_name(call, &name);
        if let (Call::Sync | Call::SyncFill, Err(_), Ok(file)) = (call, &result, self.file(node)) {
            file.fail_sync();
        }
        result
    }

    /// Counts a call on a name; what a fault makes of it.
    pub(super) fn call_name(&mut self, call: Call, name: &str) -> Result<Option<How>> {
        *self.calls.entry(call).or_default() += 1;
        let Some(how) = self.faults.iter_mut().find_map(|fault| fault.strikes(call, name)) else {
            return Ok(None);
        };
        self.hits += 1;
        match how {
            How::Error(error) => Err(Errno::from_i32(error.raw_os_error())),
            how => Ok(Some(how)),
        }
    }

    /// What it was called last.
    pub(super) fn name(&self, node: u64) -> &str {
        self.nodes.get(&node).map_or("", |node| node.name.as_str())
    }

    pub(super) fn node(&self, node: u64) -> Result<&Node> {
        self.nodes.get(&node).ok_or(Errno::ENOENT)
    }

    pub(super) fn file(&mut self, node: u64) -> Result<&mut Contents> {
        match self.nodes.get_mut(&node).map(|node| &mut node.kind) {
            Some(Kind::File(contents)) => Ok(contents),
            Some(Kind::Directory(_)) => Err(Errno::EISDIR),
            None => Err(Errno::ENOENT),
        }
    }

    pub(super) fn directory(&mut self, node: u64) -> Result<&mut Names> {
        match self.nodes.get_mut(&node).map(|node| &mut node.kind) {
            Some(Kind::Directory(names)) => Ok(names),
            Some(Kind::File(_)) => Err(Errno::ENOTDIR),
            None => Err(Errno::ENOENT),
        }
    }

    pub(super) fn lookup(&mut self, parent: u64, name: &OsStr) -> Result<u64> {
        self.directory(parent)?.get(name).ok_or(Errno::ENOENT)
    }

    pub(super) fn make(&mut self, parent: u64, name: &OsStr, mode: u32, kind: Kind) -> Result<u64> {
        if self.directory(parent)?.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        let number = self.next;
        self.next += 1;
        let name_text = name.to_string_lossy().into_owned();
        let node = Node { kind, mode: (mode & 0o7777) as u16, name: name_text, opens: 0 };
        self.nodes.insert(number, node);
        self.directory(parent)?.set(name, number);
        Ok(number)
    }

    pub(super) fn open(&mut self, node: u64) -> Result<()> {
        self.nodes.get_mut(&node).ok_or(Errno::ENOENT)?.opens += 1;
        Ok(())
    }

    pub(super) fn release(&mut self, node: u64) {
        if let Some(node) = self.nodes.get_mut(&node) {
            node.opens = node.opens.saturating_sub(1);
        }
        self.forget_unreachable();
    }

    pub(super) fn remove(&mut self, parent: u64, name: &OsStr) -> Result<()> {
        let node = self.lookup(parent, name)?;
        if let Kind::Directory(names) = &self.node(node)?.kind
            && !names.now().is_empty()
        {
            return Err(Errno::ENOTEMPTY);
        }
        self.directory(parent)?.remove(name);
        Ok(())
    }

    pub(super) fn rename(&mut self, parent: u64, from: &OsStr, to: &OsStr) -> Result<()> {
        if !self.directory(parent)?.rename(from, to) {
            return Err(Errno::ENOENT);
        }
        let node = self.lookup(parent, to)?;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.name = to.to_string_lossy().into_owned();
        }
        Ok(())
    }

    /// Names in a directory, with their numbers and whether they are directories.
    pub(super) fn list(&mut self, node: u64) -> Result<Vec<(OsString, u64, bool)>> {
        let names = self.directory(node)?.now().clone();
        let entry = |(name, number)| {
            let directory = matches!(self.nodes.get(&number), Some(Node { kind: Kind::Directory(_), .. }));
            (name, number, directory)
        };
        Ok(names.into_iter().map(entry).collect())
    }

    /// Writes; how much of it, where room or a fault is short.
    pub(super) fn write(&mut self, node: u64, offset: u64, data: &[u8], how: Option<How>) -> Result<usize> {
        let data = if how == Some(How::Short) { &data[..data.len().div_ceil(2)] } else { data };
        self.make_room(node, offset, data.len() as u64)?;
        self.file(node)?.write(offset, data);
        Ok(data.len())
    }

    pub(super) fn allocate(&mut self, node: u64, offset: u64, bytes: u64, grow: bool) -> Result<()> {
        self.make_room(node, offset, bytes)?;
        self.file(node)?.allocate(offset, bytes, grow);
        Ok(())
    }

    /// What a sync of a file counts as.
    pub(super) fn sync_call(&mut self, node: u64) -> Call {
        if self.file(node).is_ok_and(|file| file.is_written()) { Call::Sync } else { Call::SyncFill }
    }

    pub(super) fn sync_file(&mut self, node: u64, how: Option<How>) -> Result<()> {
        match self.lie {
            _ if how == Some(How::Unsaid) => self.file(node).map(Contents::fail_sync),
            Lie::Fsync => self.file(node).map(|_| ()),
            Lie::Never | Lie::Dirsync => self.file(node).map(Contents::sync),
        }
    }

    pub(super) fn sync_directory(&mut self, node: u64) -> Result<()> {
        if self.lie == Lie::Never {
            self.directory(node)?.sync();
            self.forget_unreachable();
        }
        Ok(())
    }

    /// All files and directories.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// Blocks without an owner.
    pub(super) fn room_left(&self) -> u64 {
        let named = self.nodes.values().filter_map(|node| match &node.kind {
            Kind::Directory(names) => Some(names.now().values()),
            Kind::File(_) => None,
        });
        let mut live: BTreeSet<u64> = named.flatten().copied().collect();
        live.extend(self.nodes.iter().filter(|(_, node)| node.opens > 0).map(|(number, _)| *number));
        let room = |number: &u64| match self.nodes.get(number).map(|node| &node.kind) {
            Some(Kind::File(contents)) => contents.room(),
            _ => 0,
        };
        self.capacity.saturating_sub(live.iter().map(room).sum())
    }

    /// The power is gone, and nobody has anything open any more.
    pub(super) fn lose_power(&mut self, rng: &mut Rng) -> Lost {
        let mut lost = Lost::default();
        let style = Style::draw(rng);
        for node in self.nodes.values_mut() {
            node.opens = 0;
            match &mut node.kind {
                // What a sync only claimed is all gone: one consistent, older state is what such a disk comes back with.
                Kind::File(contents) if self.lie == Lie::Fsync => {
                    contents.lose_power(Style::Nothing, rng, &mut lost);
                }
                Kind::Directory(names) if self.lie != Lie::Never => {
                    names.lose_power(Style::Nothing, rng, &mut lost);
                }
                Kind::File(contents) => contents.lose_power(style, rng, &mut lost),
                Kind::Directory(names) => names.lose_power(style, rng, &mut lost),
            }
        }
        self.faults.clear();
        self.forget_unreachable();
        lost
    }

    fn make_room(&mut self, node: u64, offset: u64, bytes: u64) -> Result<()> {
        let wanted = self.file(node)?.room_wanted(offset, bytes);
        if wanted > 0 && wanted > self.room_left() { Err(self.full) } else { Ok(()) }
    }

    /// Drops what nobody has open and no power loss can bring back.
    fn forget_unreachable(&mut self) {
        let mut reachable = BTreeSet::new();
        let mut open = vec![ROOT];
        while let Some(number) = open.pop() {
            if let (true, Some(Node { kind: Kind::Directory(names), .. })) =
                (reachable.insert(number), self.nodes.get(&number))
            {
                open.extend(names.reachable());
            }
        }
        self.nodes.retain(|number, node| node.opens > 0 || reachable.contains(number));
    }
}
