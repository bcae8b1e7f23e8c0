//! The same bytes each run, from a seed: text that compresses like source, noise, and a small tree of files.

use std::path::Path;

/// A repeatable stream of numbers (xorshift64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Lines of words and numbers: shrinks to about a third.
    pub fn text(&mut self, len: usize) -> Vec<u8> {
        const WORDS: [&str; 16] = [
            "static ", "int ", "return ", "struct ", "{\n\t", "}\n", "if (", ") ", "->", "data", "size",
            "ptr", "0x", "NULL", "; ", " = ",
        ];
        let mut out = Vec::with_capacity(len + 24);
        while out.len() < len {
            let n = self.next();
            out.extend_from_slice(WORDS[(n % 16) as usize].as_bytes());
            if n >> 60 < 5 {
                out.extend_from_slice((n >> 40).to_string().as_bytes());
            }
        }
        out.truncate(len);
        out
    }

    #[allow(dead_code, reason = "as below")]
    pub fn noise(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 32) as u8).collect()
    }
}

/// `files` files of up to 32 KiB in directories of fifty.
#[allow(dead_code, reason = "each benchmark is a program of its own and uses what it needs")]
pub fn tree(root: &Path, files: usize) -> std::io::Result<u64> {
    let mut random = Random(20_251);
    let mut total = 0;
    for i in 0..files {
        let dir = root.join(format!("dir-{:03}", i / 50));
        if i % 50 == 0 {
            std::fs::create_dir_all(&dir)?;
        }
        let len = (random.next() % 32_768) as usize;
        std::fs::write(dir.join(format!("file-{i}.c")), random.text(len))?;
        total += len as u64;
    }
    Ok(total)
}
