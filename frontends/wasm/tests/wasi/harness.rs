//! A program that is nothing but its memory, and a directory to let it loose in.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use dagwood_wasm::wasi::{self, Access, CallError, Errno, Outcome, Wasi, WasiConfig};

pub(crate) const MEMORY_BYTES: usize = 1 << 16;

/// The first preopened directory.
pub(crate) const ROOT: u64 = 3;

pub(crate) const FOLLOW: u64 = 1;

pub(crate) const CREAT: u64 = 1;
pub(crate) const DIRECTORY: u64 = 2;
pub(crate) const EXCL: u64 = 4;
pub(crate) const TRUNC: u64 = 8;

pub(crate) const READ: u64 = (1 << 1) | (1 << 14);
pub(crate) const WRITE: u64 = 1 | (1 << 6) | (1 << 8) | (1 << 22);
/// What C's `open` asks for, whichever way it opens: everything that is neither reading nor writing.
pub(crate) const ANY: u64 = !(READ | WRITE);
pub(crate) const ALL: u64 = !0;

pub(crate) const APPEND: u64 = 1;
pub(crate) const NONBLOCK: u64 = 4;

/// A directory of its own for one test, removed when the test is over.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("dagwood-wasi-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str, contents: &str) {
        std::fs::write(self.0.join(name), contents).unwrap();
    }

    pub(crate) fn dir(&self, name: &str) {
        std::fs::create_dir_all(self.0.join(name)).unwrap();
    }

    pub(crate) fn link(&self, target: impl AsRef<Path>, name: &str) {
        std::os::unix::fs::symlink(target, self.0.join(name)).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.join(name)).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program: its system and its memory, from which it takes what it needs and never gives back.
pub(crate) struct Guest {
    pub(crate) wasi: Wasi,
    pub(crate) memory: Vec<u8>,
    top: usize,
}

impl Guest {
    pub(crate) fn new(config: WasiConfig) -> Self {
        Self { wasi: Wasi::new(config).unwrap(), memory: vec![0; MEMORY_BYTES], top: 16 }
    }

    /// A program that may do everything in `scratch`.
    pub(crate) fn at(scratch: &Scratch) -> Self {
        Self::new(WasiConfig::new().preopen(scratch.path(), "/", Access::ReadWrite))
    }

    /// Gives back all memory that was taken.
    pub(crate) fn forget(&mut self) {
        self.top = 16;
    }

    pub(crate) fn try_call(&mut self, name: &str, args: &[u64]) -> Result<Outcome, CallError> {
        let index = wasi::function_index(name).unwrap();
        self.wasi.call(index, args, &mut self.memory)
    }

    pub(crate) fn call(&mut self, name: &str, args: &[u64]) -> Errno {
        match self.try_call(name, args) {
            Ok(Outcome::Errno(errno)) => errno,
            other => panic!("{name}: {other:?}"),
        }
    }

    pub(crate) fn ok(&mut self, name: &str, args: &[u64]) {
        assert_eq!(self.call(name, args), Errno::Success, "{name} {args:x?}");
    }

    fn result<T>(&mut self, name: &str, args: &[u64], value: impl FnOnce(&Self) -> T) -> Result<T, Errno> {
        match self.call(name, args) {
            Errno::Success => Ok(value(self)),
            errno => Err(errno),
        }
    }

    /// Takes `size` zeroed bytes.
    pub(crate) fn take(&mut self, size: usize) -> u64 {
        let pointer = self.top.next_multiple_of(8);
        self.top = pointer + size;
        self.memory[pointer..self.top].fill(0);
        pointer as u64
    }

    /// Puts bytes into memory: pointer and length.
    pub(crate) fn put(&mut self, bytes: impl AsRef<[u8]>) -> [u64; 2] {
        let bytes = bytes.as_ref();
        let pointer = self.take(bytes.len());
        self.memory[pointer as usize..][..bytes.len()].copy_from_slice(bytes);
        [pointer, bytes.len() as u64]
    }

    /// Puts an array of (pointer, length).
    pub(crate) fn iovecs(&mut self, buffers: &[[u64; 2]]) -> u64 {
        let words = buffers.iter().flatten();
        let bytes: Vec<u8> = words.flat_map(|word| (*word as u32).to_le_bytes()).collect();
        self.put(bytes)[0]
    }

    pub(crate) fn bytes(&self, pointer: u64, length: usize) -> &[u8] {
        &self.memory[pointer as usize..][..length]
    }

    pub(crate) fn u16(&self, pointer: u64) -> u16 {
        u16::from_le_bytes(self.bytes(pointer, 2).try_into().unwrap())
    }

    pub(crate) fn u32(&self, pointer: u64) -> u32 {
        u32::from_le_bytes(self.bytes(pointer, 4).try_into().unwrap())
    }

    pub(crate) fn u64(&self, pointer: u64) -> u64 {
        u64::from_le_bytes(self.bytes(pointer, 8).try_into().unwrap())
    }

    pub(crate) fn open_with(
        &mut self,
        (dir, path): (u64, &str),
        (lookup, open_flags, rights, fd_flags): (u64, u64, u64, u64),
    ) -> Result<u64, Errno> {
        let [path, length] = self.put(path);
        let out = self.take(4);
        let args = [dir, lookup, path, length, open_flags, rights, ALL, fd_flags, out];
        self.result("path_open", &args, |guest| u64::from(guest.u32(out)))
    }

    /// Opens beneath the first directory, following links.
    pub(crate) fn open(&mut self, path: &str, open_flags: u64, rights: u64) -> Result<u64, Errno> {
        self.open_with((ROOT, path), (FOLLOW, open_flags, rights | ANY, 0))
    }

    pub(crate) fn write(&mut self, fd: u64, bytes: &str) -> Result<u32, Errno> {
        let buffer = self.put(bytes);
        let iovecs = self.iovecs(&[buffer]);
        let out = self.take(4);
        self.result("fd_write", &[fd, iovecs, 1, out], |guest| guest.u32(out))
    }

    pub(crate) fn read(&mut self, fd: u64, length: usize) -> Result<String, Errno> {
        let buffer = self.take(length);
        let iovecs = self.iovecs(&[[buffer, length as u64]]);
        let out = self.take(4);
        self.result("fd_read", &[fd, iovecs, 1, out], |guest| {
            String::from_utf8(guest.bytes(buffer, guest.u32(out) as usize).to_vec()).unwrap()
        })
    }

    /// Calls a function of a directory and one path.
    pub(crate) fn path_call(&mut self, name: &str, path: &str) -> Errno {
        let [path, length] = self.put(path);
        self.call(name, &[ROOT, path, length])
    }

    /// Calls `path_rename`, or `path_link` without following.
    pub(crate) fn two_path_call(&mut self, name: &str, old: &str, new: &str) -> Errno {
        let [old, old_length] = self.put(old);
        let [new, new_length] = self.put(new);
        match name {
            "path_link" => self.call(name, &[ROOT, 0, old, old_length, ROOT, new, new_length]),
            _ => self.call(name, &[ROOT, old, old_length, ROOT, new, new_length]),
        }
    }

    pub(crate) fn symlink(&mut self, target: &str, path: &str) -> Errno {
        let [target, target_length] = self.put(target);
        let [path, length] = self.put(path);
        self.call("path_symlink", &[target, target_length, ROOT, path, length])
    }

    /// The pointer to the filestat of a path.
    pub(crate) fn stat(&mut self, path: &str, lookup: u64) -> Result<u64, Errno> {
        let [path, length] = self.put(path);
        let out = self.take(64);
        self.result("path_filestat_get", &[ROOT, lookup, path, length, out], |_| out)
    }

    pub(crate) fn readlink(&mut self, path: &str, size: usize) -> Result<String, Errno> {
        let [path, length] = self.put(path);
        let (buffer, out) = (self.take(size), self.take(4));
        self.result("path_readlink", &[ROOT, path, length, buffer, size as u64, out], |guest| {
            String::from_utf8(guest.bytes(buffer, guest.u32(out) as usize).to_vec()).unwrap()
        })
    }

    /// One call of `fd_readdir`: the complete entries as (name, type, cookie of the next), and whether the buffer
    /// was filled.
    pub(crate) fn list(&mut self, fd: u64, size: usize, cookie: u64) -> (Vec<(String, u8, u64)>, bool) {
        let (buffer, out) = (self.take(size), self.take(4));
        self.ok("fd_readdir", &[fd, buffer, size as u64, cookie, out]);
        let used = self.u32(out) as usize;
        let mut entries = Vec::new();
        let mut at = 0;
        while at + 24 <= used {
            let entry = buffer + at as u64;
            let length = self.u32(entry + 16) as usize;
            at += 24 + length;
            if at <= used {
                let name = String::from_utf8(self.bytes(entry + 24, length).to_vec()).unwrap();
                entries.push((name, self.memory[entry as usize + 20], self.u64(entry)));
            }
        }
        (entries, used == size)
    }
}
