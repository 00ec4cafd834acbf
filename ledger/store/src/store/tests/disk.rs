//! A disk for the log that exists in memory, forgets at a power cut what was not synced, and fails as its script
//! says.
//!
//! What is appended is read back at once, and is on the platter only after a sync. A sync that fails leaves the
//! bytes readable and clean: another sync does not write them. A name that was made, changed or deleted is so for
//! good only after the folder was synced. At a power cut, a part of what was not synced may have made it, in order.
//! Not here: which call fails ([`super::script`]); the lock and the id, which are in a real folder.

use super::script::{Call, Mode, Moment, Script};
use crate::wal::{LogFile, LogFiles};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    /// Written, not synced.
    Dirty,
    /// A sync of it failed: it can be read, and no sync writes it any more.
    Lost,
    /// On the platter.
    Synced,
}

#[derive(Debug, Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    pages: Vec<Page>,
}

#[derive(Debug, Clone)]
enum Change {
    Made(String, usize),
    Renamed(String, String),
    Deleted(String),
}

#[derive(Debug, Clone, Default)]
struct State {
    contents: Vec<Content>,
    names: BTreeMap<String, usize>,
    /// The names that a power cut leaves.
    synced_names: BTreeMap<String, usize>,
    /// What was done to names since the folder was synced.
    changes: Vec<Change>,
}

/// The disk, which outlives the processes that use it.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    state: Arc<Mutex<State>>,
    script: Arc<Script>,
}

impl Disk {
    /// An empty disk.
    pub(crate) fn new(script: Arc<Script>) -> Self {
        Self { state: Arc::default(), script }
    }

    /// The disk's files as the life of the script that runs now sees them.
    pub(crate) fn files(&self) -> Arc<dyn LogFiles> {
        Arc::new(Files { disk: self.clone(), life: self.script.life() })
    }

    /// A copy as it is read back now, which never fails.
    pub(crate) fn copy(&self) -> Self {
        let state = self.state.lock().unwrap().clone();
        Self { state: Arc::new(Mutex::new(state)), script: Arc::new(Script::new(vec![])) }
    }

    /// Forgets what was not synced, but for as much of it as `draw` says.
    pub(crate) fn cut_power(&self, mut draw: impl FnMut(usize) -> usize) {
        let mut state = self.state.lock().unwrap();
        let mut names = state.synced_names.clone();
        let kept = draw(state.changes.len() + 1);
        state.changes[..kept].iter().for_each(|change| change.apply(&mut names));
        for content in &mut state.contents {
            let synced = content.pages.iter().rposition(|page| *page == Page::Synced).map_or(0, |last| last + 1);
            let rest = content.pages[synced..].iter().take_while(|page| **page == Page::Dirty).count();
            let kept = synced + draw(rest + 1);
            content.bytes.truncate(kept);
            content.pages.truncate(kept);
            for (byte, page) in content.bytes.iter_mut().zip(&mut content.pages) {
                if *page == Page::Lost {
                    *byte = 0;
                }
                *page = Page::Synced;
            }
        }
        (state.names, state.synced_names) = (names.clone(), names);
        state.changes.clear();
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Made(name, content) => drop(names.insert(name.clone(), *content)),
            Self::Renamed(from, to) => {
                let content = names.remove(from);
                content.map(|content| names.insert(to.clone(), content));
            }
            Self::Deleted(name) => drop(names.remove(name)),
        }
    }
}

impl State {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.names);
        self.changes.push(change);
    }

    fn content(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[derive(Debug, Clone)]
struct Files {
    disk: Disk,
    life: u64,
}

fn error(mode: Mode) -> io::Error {
    match mode {
        Mode::Full => io::ErrorKind::StorageFull.into(),
        Mode::ReadOnly => io::ErrorKind::ReadOnlyFilesystem.into(),
        Mode::Denied => io::ErrorKind::PermissionDenied.into(),
        _ => io::Error::other("as the script wants"),
    }
}

impl Files {
    /// Does `work` unless the script has the call fail before it. `part` is done in place of `work` when it fails
    /// half way.
    fn act<T>(
        &self,
        call: Call,
        name: &str,
        work: impl FnOnce(&mut State) -> io::Result<T>,
        part: impl FnOnce(&mut State, Mode),
    ) -> io::Result<T> {
        // Held throughout, so that a dead process does nothing after its death was noticed.
        let mut state = self.disk.state.lock().unwrap();
        let Some(strike) = self.disk.script.meet(self.life, call, name) else { return work(&mut state) };
        if strike.moment == Moment::After {
            work(&mut state)?;
        } else if self.disk.script.life() == self.life || strike.mode == Mode::PowerCut {
            part(&mut state, strike.mode);
        }
        Err(error(strike.mode))
    }
}

fn nothing(_: &mut State, _: Mode) {}

impl LogFiles for Files {
    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let list = |state: &mut State| {
            let length = |content: &usize| state.contents[*content].bytes.len() as u64;
            Ok(state.names.iter().map(|(name, content)| (name.clone(), length(content))).collect())
        };
        self.act(Call::Names, "", list, nothing)
    }

    fn read(&self, name: &str, from: u64) -> io::Result<Box<dyn Read + Send>> {
        let read = |state: &mut State| Ok(state.contents[state.content(name)?].bytes[from as usize..].to_vec());
        Ok(Box::new(io::Cursor::new(self.act(Call::Read, name, read, nothing)?)))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let create = |state: &mut State| {
            if state.names.contains_key(name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            state.contents.push(Content::default());
            let content = state.contents.len() - 1;
            state.change(Change::Made(name.into(), content));
            Ok(content)
        };
        let content = self.act(Call::Create, name, create, nothing)?;
        Ok(Box::new(OpenFile { files: self.clone(), name: name.into(), content }))
    }

    fn cut(&self, name: &str, length: u64) -> io::Result<()> {
        let cut = |state: &mut State| {
            let content = state.content(name)?;
            let content = &mut state.contents[content];
            content.bytes.truncate(length as usize);
            content.pages.truncate(length as usize);
            content.sync();
            Ok(())
        };
        self.act(Call::Cut, name, cut, nothing)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let rename = |state: &mut State| {
            state.content(from)?;
            state.change(Change::Renamed(from.into(), to.into()));
            Ok(())
        };
        self.act(Call::Rename, from, rename, nothing)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let delete = |state: &mut State| {
            state.content(name)?;
            state.change(Change::Deleted(name.into()));
            Ok(())
        };
        self.act(Call::Remove, name, delete, nothing)
    }

    fn sync_folder(&self) -> io::Result<()> {
        let sync = |state: &mut State| {
            state.synced_names = state.names.clone();
            state.changes.clear();
            Ok(())
        };
        self.act(Call::SyncNames, "", sync, nothing)
    }
}

impl Content {
    fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pages.resize(self.bytes.len(), Page::Dirty);
    }

    fn sync(&mut self) {
        self.pages.iter_mut().filter(|page| **page == Page::Dirty).for_each(|page| *page = Page::Synced);
    }

    fn fail_to_sync(&mut self) {
        self.pages.iter_mut().filter(|page| **page == Page::Dirty).for_each(|page| *page = Page::Lost);
    }
}

#[derive(Debug)]
struct OpenFile {
    files: Files,
    name: String,
    content: usize,
}

impl LogFile for OpenFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let at = self.content;
        let all = |state: &mut State| {
            state.contents[at].append(bytes);
            Ok(())
        };
        let half = |state: &mut State, mode| match mode {
            // A disk that fills up, or a process that dies, in the middle of it.
            Mode::Broken | Mode::Full | Mode::PowerCut => state.contents[at].append(&bytes[..bytes.len() / 2]),
            _ => {}
        };
        self.files.act(Call::Append, &self.name, all, half)
    }

    fn sync(&mut self) -> io::Result<()> {
        let at = self.content;
        let sync = |state: &mut State| {
            state.contents[at].sync();
            Ok(())
        };
        let fail = |state: &mut State, mode| {
            if !matches!(mode, Mode::PowerCut | Mode::Death) {
                state.contents[at].fail_to_sync();
            }
        };
        self.files.act(Call::Sync, &self.name, sync, fail)
    }
}
