//! `wasi:filesystem` on a run's scratch directory and on nothing else.
//!
//! The engine's implementation keeps a guest below the directory. What is added here: whatever makes files grow asks
//! the run's [`Account`] first; there are no links, so a file has one name and lies where its path says; directories
//! keep their places, so none lies deeper than it was made.
//!
//! The directory is called `/tmp`: programs and libraries that were not written for us look there.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use clawhold_tenancy::RunLimits;
use wasmtime::component::{HasData, Resource};
use wasmtime_wasi::filesystem::{Descriptor, Dir, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult, ReaddirIterator};
use wasmtime_wasi::{FsPerms, OpenMode};

use self::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize, Host, HostDescriptor,
    HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use super::output::Output;
use super::scratch::{Account, DEPTH, RunDir, ScratchRoot, locked};
use crate::{Journal, lock};

/// The guest's name of the directory.
const NAME: &str = "/tmp";

/// Bytes of a path.
const PATH_BYTES: usize = 1024;

type Handle = Resource<Descriptor>;

/// The scratch files of a run, if it may have any.
pub(crate) struct Scratch {
    root: Option<Arc<ScratchRoot>>,
    limits: RunLimits,
    journal: Arc<Mutex<Journal>>,
    made: Option<Made>,
}

/// What there is once the guest has asked.
struct Made {
    preopen: Dir,
    account: Arc<Mutex<Account>>,
    /// How deep the directories lie that the guest holds open; the scratch directory itself is at 0.
    depths: HashMap<u32, usize>,
    /// Last, so that it is removed when nothing in it is held any more.
    _removed_on_drop: RunDir,
}

impl Scratch {
    pub(crate) fn new(root: Option<Arc<ScratchRoot>>, limits: &RunLimits, journal: &Arc<Mutex<Journal>>) -> Self {
        let root = root.filter(|_| limits.scratch_bytes > 0);
        Self { root, limits: limits.clone(), journal: Arc::clone(journal), made: None }
    }

    /// The directory, made when it is asked for first; nothing when the run may have none.
    fn directory(&mut self) -> io::Result<Option<Dir>> {
        if let Some(made) = &self.made {
            return Ok(Some(made.preopen.clone()));
        }
        let Some(root) = &self.root else { return Ok(None) };
        let run = RunDir::create(Arc::clone(root))?;
        let (journal, lines) = (Arc::clone(&self.journal), self.limits.log_lines);
        let explain = Box::new(move |line| lock(&journal).line(lines, line));
        let (bytes, files) = (self.limits.scratch_bytes, self.limits.scratch_files);
        let account = Arc::new(Mutex::new(Account::new(run.dir.try_clone()?, bytes, files, explain)));
        let file = run.dir.try_clone()?.into_std_file();
        let preopen = Dir::new(file, FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE, true);
        let made = Made { preopen: preopen.clone(), account, depths: HashMap::new(), _removed_on_drop: run };
        self.made = Some(made);
        Ok(Some(preopen))
    }

    /// For calls on a descriptor: there is none without a directory.
    fn made(&mut self) -> Result<&mut Made, ErrorCode> {
        self.made.as_mut().ok_or(ErrorCode::BadDescriptor)
    }

    fn account(&mut self) -> Result<MutexGuard<'_, Account>, ErrorCode> {
        Ok(locked(&self.made()?.account))
    }
}

/// What serves a call.
pub(crate) struct FilesOfRun<'a> {
    pub(crate) inner: WasiFilesystemCtxView<'a>,
    pub(crate) scratch: &'a mut Scratch,
}

impl HasData for FilesOfRun<'static> {
    type Data<'a> = FilesOfRun<'a>;
}

impl FilesOfRun<'_> {
    fn file(&self, handle: &Handle) -> FsResult<Arc<File>> {
        match self.inner.table.get(handle)? {
            Descriptor::File(file) => Ok(Arc::clone(&file.file)),
            Descriptor::Dir(_) => Err(ErrorCode::IsDirectory.into()),
        }
    }

    /// How deep a path leads, at most: a step up counts as one down.
    fn depth(&mut self, handle: &Handle, path: &str) -> Result<usize, ErrorCode> {
        if path.len() > PATH_BYTES {
            return Err(ErrorCode::NameTooLong);
        }
        let steps = path.split('/').filter(|step| !matches!(*step, "" | ".")).count();
        let depth = self.scratch.made()?.depths.get(&handle.rep()).copied().unwrap_or(0) + steps;
        if depth > DEPTH { Err(ErrorCode::NameTooLong) } else { Ok(depth) }
    }

    async fn kind(&mut self, handle: &Handle, path: &str) -> FsResult<DescriptorType> {
        Ok(self.inner.stat_at(again(handle), PathFlags::empty(), path.to_owned()).await?.type_)
    }

    fn stream(&mut self, handle: &Handle, at: Option<u64>) -> FsResult<Resource<DynOutputStream>> {
        let file = self.file(handle)?;
        let account = Arc::clone(&self.scratch.made()?.account);
        let stream: DynOutputStream = Box::new(Output::new(file, at, account));
        Ok(self.inner.table.push(stream)?)
    }
}

/// The same handle once more: the engine's functions take it by value.
fn again(handle: &Handle) -> Handle {
    Resource::new_borrow(handle.rep())
}

impl preopens::Host for FilesOfRun<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Handle, String)>> {
        let directory = self.scratch.directory().map_err(|error| {
            tracing::error!(%error, "a scratch directory could not be made");
            wasmtime::Error::msg("the host could not make a scratch directory; call again later")
        })?;
        let Some(directory) = directory else { return Ok(Vec::new()) };
        Ok(vec![(self.inner.table.push(Descriptor::Dir(directory))?, NAME.to_owned())])
    }
}

impl Host for FilesOfRun<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.inner.convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.inner.filesystem_error_code(error)
    }
}

impl HostDescriptor for FilesOfRun<'_> {
    // What makes a file grow.

    async fn open_at(
        &mut self,
        handle: Handle,
        follow: PathFlags,
        path: String,
        how: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Handle> {
        let depth = self.depth(&handle, &path)?;
        self.scratch.account()?.may_open()?;
        let creates = how.contains(OpenFlags::CREATE) && self.kind(&handle, &path).await.is_err();
        if creates {
            self.scratch.account()?.add()?;
        }
        if how.contains(OpenFlags::TRUNCATE) {
            self.scratch.account()?.shrunk();
        }
        let opened = match self.inner.open_at(handle, follow, path, how, flags).await {
            Ok(opened) => opened,
            Err(error) => {
                self.scratch.account()?.shrunk();
                return Err(error);
            }
        };
        let made = self.scratch.made()?;
        match self.inner.table.get(&opened)? {
            Descriptor::File(file) => locked(&made.account).opened(&file.file),
            Descriptor::Dir(dir) => {
                locked(&made.account).opened(&dir.dir);
                made.depths.insert(opened.rep(), depth);
            }
        }
        Ok(opened)
    }

    async fn create_directory_at(&mut self, handle: Handle, path: String) -> FsResult<()> {
        self.depth(&handle, &path)?;
        self.scratch.account()?.add()?;
        let made = self.inner.create_directory_at(handle, path).await;
        if made.is_err() {
            self.scratch.account()?.shrunk();
        }
        made
    }

    async fn set_size(&mut self, handle: Handle, size: Filesize) -> FsResult<()> {
        let file = self.file(&handle)?;
        {
            let mut account = self.scratch.account()?;
            account.grow(&file, size)?;
            account.shrunk();
        }
        self.inner.set_size(handle, size).await
    }

    async fn write(&mut self, handle: Handle, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let file = self.file(&handle)?;
        let end = offset.checked_add(bytes.len() as u64).ok_or(ErrorCode::FileTooLarge)?;
        self.scratch.account()?.grow(&file, end)?;
        self.inner.write(handle, bytes, offset).await
    }

    fn write_via_stream(&mut self, handle: Handle, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        self.stream(&handle, Some(offset))
    }

    fn append_via_stream(&mut self, handle: Handle) -> FsResult<Resource<DynOutputStream>> {
        self.stream(&handle, None)
    }

    // What makes room, or moves a name.

    async fn unlink_file_at(&mut self, handle: Handle, path: String) -> FsResult<()> {
        self.depth(&handle, &path)?;
        self.scratch.account()?.shrunk();
        self.inner.unlink_file_at(handle, path).await
    }

    async fn remove_directory_at(&mut self, handle: Handle, path: String) -> FsResult<()> {
        self.depth(&handle, &path)?;
        self.scratch.account()?.shrunk();
        self.inner.remove_directory_at(handle, path).await
    }

    async fn rename_at(&mut self, handle: Handle, from: String, to: Handle, new: String) -> FsResult<()> {
        self.depth(&handle, &from)?;
        self.depth(&to, &new)?;
        if let DescriptorType::Directory = self.kind(&handle, &from).await? {
            return Err(ErrorCode::NotPermitted.into());
        }
        self.scratch.account()?.shrunk();
        self.inner.rename_at(handle, from, to, new).await
    }

    async fn link_at(&mut self, _: Handle, _: PathFlags, _: String, _: Handle, _: String) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn symlink_at(&mut self, _: Handle, _: String, _: String) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    async fn readlink_at(&mut self, _: Handle, _: String) -> FsResult<String> {
        Err(ErrorCode::Invalid.into())
    }

    fn drop(&mut self, handle: Handle) -> wasmtime::Result<()> {
        if let Some(made) = &mut self.scratch.made {
            made.depths.remove(&handle.rep());
        }
        HostDescriptor::drop(&mut self.inner, handle)
    }

    // What has no use for files that end with the run, and would cost the host's disk.

    async fn advise(&mut self, handle: Handle, _: Filesize, _: Filesize, _: Advice) -> FsResult<()> {
        self.file(&handle).map(|_| ())
    }

    async fn sync_data(&mut self, handle: Handle) -> FsResult<()> {
        self.inner.table.get(&handle)?;
        Ok(())
    }

    async fn sync(&mut self, handle: Handle) -> FsResult<()> {
        self.inner.table.get(&handle)?;
        Ok(())
    }

    // What only looks.

    async fn get_flags(&mut self, handle: Handle) -> FsResult<DescriptorFlags> {
        self.inner.get_flags(handle).await
    }

    async fn get_type(&mut self, handle: Handle) -> FsResult<DescriptorType> {
        self.inner.get_type(handle).await
    }

    async fn set_times(&mut self, handle: Handle, access: NewTimestamp, change: NewTimestamp) -> FsResult<()> {
        self.inner.set_times(handle, access, change).await
    }

    async fn set_times_at(
        &mut self,
        handle: Handle,
        follow: PathFlags,
        path: String,
        access: NewTimestamp,
        change: NewTimestamp,
    ) -> FsResult<()> {
        self.depth(&handle, &path)?;
        self.inner.set_times_at(handle, follow, path, access, change).await
    }

    async fn read(&mut self, handle: Handle, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        self.inner.read(handle, length, offset).await
    }

    fn read_via_stream(&mut self, handle: Handle, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        self.inner.read_via_stream(handle, offset)
    }

    async fn read_directory(&mut self, handle: Handle) -> FsResult<Resource<ReaddirIterator>> {
        self.inner.read_directory(handle).await
    }

    async fn stat(&mut self, handle: Handle) -> FsResult<DescriptorStat> {
        self.inner.stat(handle).await
    }

    async fn stat_at(&mut self, handle: Handle, follow: PathFlags, path: String) -> FsResult<DescriptorStat> {
        self.depth(&handle, &path)?;
        self.inner.stat_at(handle, follow, path).await
    }

    async fn is_same_object(&mut self, one: Handle, other: Handle) -> wasmtime::Result<bool> {
        self.inner.is_same_object(one, other).await
    }

    async fn metadata_hash(&mut self, handle: Handle) -> FsResult<MetadataHashValue> {
        self.inner.metadata_hash(handle).await
    }

    async fn metadata_hash_at(
        &mut self,
        handle: Handle,
        follow: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        self.depth(&handle, &path)?;
        self.inner.metadata_hash_at(handle, follow, path).await
    }
}

impl HostDirectoryEntryStream for FilesOfRun<'_> {
    async fn read_directory_entry(&mut self, stream: Resource<ReaddirIterator>) -> FsResult<Option<DirectoryEntry>> {
        self.inner.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<ReaddirIterator>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.inner, stream)
    }
}
