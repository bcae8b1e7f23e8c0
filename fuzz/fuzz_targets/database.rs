//! Headers and write-ahead logs of databases, as anybody may lay them beside a source.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::error::Result;
use snapkeep::sqlite::image::{Files, Image};
use snapkeep::sqlite::{Header, wal};

struct Given(Vec<u8>);

impl Files for Given {
    fn read_main(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        self.read_wal(at, out)
    }

    fn read_wal(&mut self, at: u64, out: &mut [u8]) -> Result<()> {
        let from = (at as usize).min(self.0.len());
        let there = (self.0.len() - from).min(out.len());
        out[..there].copy_from_slice(&self.0[from..from + there]);
        out[there..].fill(0);
        Ok(())
    }
}

fuzz_target!(|data: &[u8]| {
    if let Some(header) = Header::parse(data) {
        assert!(header.page_size.is_power_of_two());
        let _ = header.pages(data.len() as u64);
    }
    let mut files = Given(data.to_vec());
    if let Ok(Some(log)) = wal::read(&mut files, data.len() as u64, None) {
        let (size, pages) = (log.mark.page_size, log.mark.pages.min(100));
        let mut image = Image::new(size, pages, Box::new(files), Some(log));
        let mut page = vec![0; size as usize];
        for number in 1..=pages {
            image.read_pages(number, &mut page).expect("zeros behind the end");
        }
    }
});
