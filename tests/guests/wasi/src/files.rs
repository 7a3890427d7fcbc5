//! Files, step by step.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::Path;

use clawhold_skill::{Error, data, skill};
use wasip2::clocks::wall_clock::Datetime;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};

use crate::end;

const EIO: i32 = 29;

/// One step. Which of the fields count depends on what it does.
#[data]
struct Step {
    /// `write`, `append`, `read`, `size`, `set_size`, `write_at`, `remove`, `mkdir`, `rmdir`, `rename`, `link`,
    /// `symlink`, `list`, `keep` (open and keep open), `grow_kept`, `let_go`, `create_raw` or `fill`.
    does: String,
    path: Option<String>,
    to: Option<String>,
    bytes: Option<u64>,
    at: Option<u64>,
}

/// Does the steps, each whatever became of the ones before, says how each ended, and ends as asked.
#[skill(name = "wasi.files")]
fn files(steps: Vec<Step>, ends: Option<String>) -> Result<Vec<String>, Error> {
    let mut kept = Vec::new();
    let said = steps
        .iter()
        .map(|step| match done(step, &mut kept) {
            Ok(said) => said,
            // What a stream says of its error, WASI's C library makes an `EIO` of.
            Err(error) if error.kind() == ErrorKind::StorageFull || error.raw_os_error() == Some(EIO) => {
                "full".to_owned()
            }
            Err(error) => format!("{:?}", error.kind()),
        })
        .collect();
    end(ends.as_deref().unwrap_or_default())?;
    Ok(said)
}

fn done(step: &Step, kept: &mut Vec<File>) -> std::io::Result<String> {
    let path = Path::new(step.path.as_deref().unwrap_or("/tmp/file"));
    let to = Path::new(step.to.as_deref().unwrap_or("/tmp/other"));
    let (bytes, at) = (step.bytes.unwrap_or(1), step.at.unwrap_or(0));
    let text = || vec![b'x'; usize::try_from(bytes).expect("it fits into memory")];
    match step.does.as_str() {
        "write" => fs::write(path, text())?,
        "append" => OpenOptions::new().append(true).create(true).open(path)?.write_all(&text())?,
        "read" => return Ok(fs::read(path)?.len().to_string()),
        "size" => return Ok(fs::metadata(path)?.len().to_string()),
        "set_size" => OpenOptions::new().write(true).open(path)?.set_len(bytes)?,
        "write_at" => {
            let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            file.seek(SeekFrom::Start(at))?;
            file.write_all(&text())?;
        }
        "remove" => fs::remove_file(path)?,
        "mkdir" => fs::create_dir(path)?,
        "rmdir" => fs::remove_dir(path)?,
        "rename" => fs::rename(path, to)?,
        "link" => fs::hard_link(path, to)?,
        "symlink" => {
            let (target, name) = (step.path.as_deref().unwrap_or("file"), step.to.as_deref().unwrap_or("link"));
            return Ok(root().symlink_at(target, name).err().map_or("ok", |code| code.name()).to_owned());
        }
        "list" => {
            let mut names = fs::read_dir(path)?.map(|e| Ok(e?.file_name().to_string_lossy().into_owned()));
            let mut names = names.by_ref().collect::<std::io::Result<Vec<_>>>()?;
            names.sort();
            return Ok(names.join(" "));
        }
        "keep" => kept.push(OpenOptions::new().write(true).create(true).truncate(false).open(path)?),
        "grow_kept" => {
            for file in kept {
                file.seek(SeekFrom::End(0))?;
                file.write_all(&text())?;
            }
        }
        "let_go" => kept.clear(),
        "create_raw" => return Ok(create_raw(step.path.as_deref().unwrap_or_default())),
        // As many empty files as there may be.
        "fill" => {
            for n in 0..bytes {
                if let Err(error) = File::create(path.join(n.to_string())) {
                    return Ok(format!("{n} {:?}", error.kind()));
                }
            }
            return Ok(bytes.to_string());
        }
        other => panic!("{other:?} is no step"),
    }
    Ok("ok".to_owned())
}

fn root() -> Descriptor {
    wasip2::filesystem::preopens::get_directories().remove(0).0
}

/// Creates a file by the path as it is, which a library would tidy first.
fn create_raw(path: &str) -> String {
    match root().open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::CREATE, DescriptorFlags::WRITE) {
        Ok(_) => "ok".to_owned(),
        Err(code) => code.name().to_owned(),
    }
}

/// Makes directories in each other by handles, so that no path is long, and says how deep it came.
#[skill(name = "wasi.dig")]
fn dig() -> u32 {
    let mut directory = root();
    for depth in 0..10_000 {
        if directory.create_directory_at("d").is_err() {
            return depth;
        }
        match directory.open_at(PathFlags::empty(), "d", OpenFlags::DIRECTORY, DescriptorFlags::READ) {
            Ok(deeper) => directory = deeper,
            Err(_) => return depth,
        }
    }
    10_000
}

/// Writes far behind the end, with functions that libraries do not use: what each of three ways said.
#[skill(name = "wasi.write_far")]
fn write_far(offset: u64) -> Vec<String> {
    let how = OpenFlags::CREATE;
    let file = root().open_at(PathFlags::empty(), "far", how, DescriptorFlags::WRITE).expect("it can be made");
    let write = file.write(b"x", offset).err().map_or("ok", |code| code.name()).to_owned();
    let size = file.set_size(offset).err().map_or("ok", |code| code.name()).to_owned();
    let stream = file.write_via_stream(offset).expect("it can be opened");
    let streamed = stream.blocking_write_and_flush(b"x").map_or("failed", |()| "ok").to_owned();
    vec![write, size, streamed, file.stat().expect("it is there").size.to_string()]
}

/// Sets a file's times, by its handle and by its path, and looks at them: what each said.
#[skill(name = "wasi.stamp")]
fn stamp(seconds: u64, nanoseconds: u32) -> Vec<String> {
    let time = NewTimestamp::Timestamp(Datetime { seconds, nanoseconds });
    let file = root().open_at(PathFlags::empty(), "stamped", OpenFlags::CREATE, DescriptorFlags::WRITE);
    let file = file.expect("it can be made");
    let by_handle = file.set_times(time, time);
    let by_path = root().set_times_at(PathFlags::empty(), "stamped", time, time);
    [by_handle, by_path, file.stat().map(|_| ())]
        .map(|said| said.err().map_or("ok", |code| code.name()).to_owned())
        .into()
}

/// Opens a file as often as it can, and says how often that was.
#[skill(name = "wasi.open_many")]
fn open_many() -> usize {
    let root = root();
    let mut held = Vec::new();
    while let Ok(file) = root.open_at(PathFlags::empty(), "many", OpenFlags::CREATE, DescriptorFlags::WRITE) {
        held.push(file);
    }
    held.len()
}

/// Reads so many bytes from a file in one call, and says how many came.
#[skill(name = "wasi.read_at_once")]
fn read_at_once(bytes: u64) -> Vec<usize> {
    fs::write("/tmp/large", vec![b'x'; 300_000]).expect("it can be written");
    let file =
        root().open_at(PathFlags::empty(), "large", OpenFlags::empty(), DescriptorFlags::READ).expect("is there");
    let at_once = file.read(bytes, 0).expect("it can be read").0.len();
    let stream = file.read_via_stream(0).expect("it can be read");
    vec![at_once, stream.blocking_read(bytes).expect("it can be read").len()]
}
