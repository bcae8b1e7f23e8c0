//! One state of a database as numbered pages, wherever each of them lies.

use super::header::lock_page;
use super::wal::Wal;
use crate::error::Result;
use std::sync::{Arc, Mutex, PoisonError};

/// The two files a state is read from. What lies behind the end of a file reads as zeros.
pub trait Files: Send {
    fn read_main(&mut self, at: u64, out: &mut [u8]) -> Result<()>;
    fn read_wal(&mut self, at: u64, out: &mut [u8]) -> Result<()>;
}

/// Bytes that a read-only database can be opened on (`ffi::open_bytes`): a pinned image, or stored chunks.
pub trait Bytes: Send {
    fn len(&self) -> u64;
    fn read_at(&mut self, at: u64, out: &mut [u8]) -> Result<()>;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Pages 1 to `pages` of one state.
pub struct Image {
    pub page_size: u32,
    pub pages: u32,
    files: Box<dyn Files>,
    /// Pages that are newer than the main file's.
    wal: Option<Wal>,
}

impl Image {
    pub fn new(page_size: u32, pages: u32, files: Box<dyn Files>, wal: Option<Wal>) -> Self {
        Image { page_size, pages, files, wal }
    }

    /// Bytes of all pages.
    pub fn len(&self) -> u64 {
        u64::from(self.page_size) * u64::from(self.pages)
    }

    pub fn is_empty(&self) -> bool {
        self.pages == 0
    }

    /// The state of the write-ahead log that the image ends with.
    pub fn mark(&self) -> Option<super::wal::Mark> {
        self.wal.as_ref().map(|wal| wal.mark)
    }

    /// Fills `out` with whole pages, from page `first` (the first is 1) on.
    pub fn read_pages(&mut self, first: u32, out: &mut [u8]) -> Result<()> {
        let size = self.page_size as usize;
        let count = (out.len() / size) as u32;
        let lock = lock_page(self.page_size);
        let mut done = 0;
        while done < count {
            let page = first + done;
            let at = done as usize * size;
            // SQLite never reads the page of its lock bytes; what may stand there is nothing.
            if page == lock {
                out[at..at + size].fill(0);
                done += 1;
                continue;
            }
            if let Some(place) = self.in_wal(page) {
                self.files.read_wal(place, &mut out[at..at + size])?;
                done += 1;
                continue;
            }
            let mut run = 1;
            while done + run < count && page + run != lock && self.in_wal(page + run).is_none() {
                run += 1;
            }
            let end = at + run as usize * size;
            self.files.read_main(u64::from(page - 1) * size as u64, &mut out[at..end])?;
            done += run;
        }
        Ok(())
    }

    /// For several readers, one at a time.
    pub fn share(self) -> SharedImage {
        let (page_size, pages) = (self.page_size, self.pages);
        SharedImage { page_size, pages, image: Arc::new(Mutex::new(self)) }
    }

    fn in_wal(&self, page: u32) -> Option<u64> {
        self.wal.as_ref()?.find(page)
    }
}

/// An image in the hands of several.
#[derive(Clone)]
pub struct SharedImage {
    pub page_size: u32,
    pub pages: u32,
    image: Arc<Mutex<Image>>,
}

impl SharedImage {
    pub fn read_pages(&self, first: u32, out: &mut [u8]) -> Result<()> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner).read_pages(first, out)
    }
}

impl Bytes for SharedImage {
    fn len(&self) -> u64 {
        u64::from(self.page_size) * u64::from(self.pages)
    }

    fn read_at(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        self.image.lock().unwrap_or_else(PoisonError::into_inner).read_at(at, out)
    }
}

impl Bytes for Image {
    fn len(&self) -> u64 {
        Image::len(self)
    }

    fn read_at(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        let size = u64::from(self.page_size);
        if at.is_multiple_of(size) && (out.len() as u64).is_multiple_of(size) {
            return self.read_pages((at / size) as u32 + 1, out);
        }
        // SQLite reads some bytes of the header by themselves.
        let first = at / size;
        let last = (at + out.len() as u64).div_ceil(size);
        let mut whole = vec![0; ((last - first) * size) as usize];
        self.read_pages(first as u32 + 1, &mut whole)?;
        let skip = (at - first * size) as usize;
        out.copy_from_slice(&whole[skip..skip + out.len()]);
        Ok(())
    }
}
