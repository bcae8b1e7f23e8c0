//! The search that found the gear table's low bytes: `cargo bench --bench gear_search -- --search [FILE..]`.
//!
//! A vector scan tests the low byte of the gear hash at every position and looks closer at the positions where it is
//! zero: 1 in 256 if all goes well. Because the low byte comes from two tables of 16 bytes, most tables do badly on
//! data of few different bytes. This program derives tables from seeds, measures the rate on several kinds of data,
//! and prints the seeds whose worst rate is nearest to 1/256.
//!
//! Options: `--seeds N` (how many, default 4096), `--first N` (the first, default 0), `--show N` (one seed's rates; 328449
//! is the one in use, best of `--seeds 1000000`).
//! Files named on the command line are inputs (8 MiB spread over each); without any, this package's sources and this very
//! program. Generated JSON, database pages, base64, hex digits and random bytes are always inputs.
//! Without `--search` or `--show` it does nothing: nobody has to wait for it.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::ExitCode;

/// Bytes taken of each input, as pieces spread over it.
const SAMPLE: usize = 8 << 20;
const PIECE: usize = 64 << 10;
/// The first round looks at one piece in this many; its best `FINALISTS` are measured on everything.
const THINNING: usize = 16;
const FINALISTS: usize = 1024;
/// Seeds measured side by side: one byte each in vector registers.
const LANES: usize = 64;

struct Input {
    name: String,
    bytes: Vec<u8>,
}

struct Candidate {
    seed: u64,
    /// Hits per 1/256 of the positions, one for each input: 1.0 is right.
    rates: Vec<f64>,
}

impl Candidate {
    /// The worst factor by which a rate is off, at least 1.
    fn worst(&self) -> f64 {
        self.rates.iter().map(|r| r.max(1.0 / r)).fold(1.0, f64::max)
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (mut search, mut seeds, mut first, mut files) = (false, 4096, 0, Vec::new());
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|n| n.parse::<u64>().ok());
        match arg.as_str() {
            "--search" => search = true,
            "--seeds" => seeds = number().unwrap_or(seeds),
            "--first" => first = number().unwrap_or(first),
            "--show" => (search, first, seeds) = (true, number().unwrap_or(first), 1),
            // Cargo adds `--bench`; test runners add more of the kind.
            option if option.starts_with('-') => {}
            file => files.push(file.to_owned()),
        }
    }
    if !search {
        println!("gear_search: nothing to do without --search");
        return ExitCode::SUCCESS;
    }
    match inputs(&files) {
        Ok(inputs) => run(&inputs, first, seeds),
        Err(e) => {
            eprintln!("gear_search: cannot read the inputs: {e}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run(inputs: &[Input], first: u64, seeds: u64) {
    for input in inputs {
        println!("input {:>10} bytes  {}", input.bytes.len(), input.name);
    }
    let wanted: Vec<u64> =
        (first..first.saturating_add(seeds)).filter(|s| seeds == 1 || usable(*s)).collect();
    println!("{} of {seeds} seeds have no zero among their 256 low bytes", wanted.len());
    let thin = |input: &Input| Input {
        name: input.name.clone(),
        bytes: input.bytes.chunks(PIECE).step_by(THINNING).flatten().copied().collect(),
    };
    let thinned: Vec<Input> = inputs.iter().map(thin).collect();
    let finalists: Vec<u64> = best(&wanted, &thinned).iter().take(FINALISTS).map(|c| c.seed).collect();
    let found = best(&finalists, inputs);
    for candidate in found.iter().take(12) {
        let rates: Vec<String> = candidate.rates.iter().map(|r| format!("{r:.3}")).collect();
        println!("seed {:>6}  worst {:.4}  rates {}", candidate.seed, candidate.worst(), rates.join(" "));
    }
    if let Some(best) = found.first() {
        let (a, b) = tables(best.seed);
        println!("seed {}: A = {a:02x?}\nB = {b:02x?}", best.seed);
    }
}

/// The seeds with their rates, best first.
fn best(seeds: &[u64], inputs: &[Input]) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = seeds.chunks(LANES).flat_map(|group| measure(group, inputs)).collect();
    found.sort_by(|a, b| a.worst().total_cmp(&b.worst()));
    found
}

/// The two tables of a seed: 32 bytes of BLAKE3 output, A then B.
fn tables(seed: u64) -> ([u8; 16], [u8; 16]) {
    let mut out = [[0; 16]; 2];
    let mut hasher = blake3::Hasher::new_derive_key("snapkeep 2026-11 gear search");
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(out.as_flattened_mut());
    (out[0], out[1])
}

/// Whether no low byte is zero. In a run of one byte the hash soon stands still at minus that byte's value, so a zero
/// would let the filter pass at every position of the run: of zeros, of blanks, of any fill byte.
fn usable(seed: u64) -> bool {
    let (a, b) = tables(seed);
    a.iter().all(|x| !b.contains(x))
}

/// The rates of up to `LANES` seeds over all inputs, one pass for all seeds.
fn measure(seeds: &[u64], inputs: &[Input]) -> Vec<Candidate> {
    let mut low = [[0u8; LANES]; 256];
    for (lane, seed) in seeds.iter().enumerate() {
        let (a, b) = tables(*seed);
        for (byte, row) in low.iter_mut().enumerate() {
            row[lane] = a[byte & 15] ^ b[byte >> 4];
        }
    }
    let counts: Vec<[u64; LANES]> = inputs.iter().map(|input| hits(&low, &input.bytes)).collect();
    let rate = |lane: usize, i: usize| {
        let expected = inputs[i].bytes.len() as f64 / 256.0;
        counts[i][lane].max(1) as f64 / expected
    };
    let of_lane = |(lane, seed): (usize, &u64)| Candidate {
        seed: *seed,
        rates: (0..inputs.len()).map(|i| rate(lane, i)).collect(),
    };
    seeds.iter().enumerate().map(of_lane).collect()
}

/// For each lane, at how many positions the low byte of the gear hash is zero.
fn hits(low: &[[u8; LANES]; 256], bytes: &[u8]) -> [u64; LANES] {
    let mut total = [0; LANES];
    let mut hash = [0u8; LANES];
    // One-byte counters: at most 255 positions before they are emptied.
    for block in bytes.chunks(255) {
        let mut count = [0u8; LANES];
        for byte in block {
            let row = &low[usize::from(*byte)];
            for lane in 0..LANES {
                hash[lane] = hash[lane].wrapping_add(hash[lane]).wrapping_add(row[lane]);
                count[lane] += u8::from(hash[lane] == 0);
            }
        }
        for lane in 0..LANES {
            total[lane] += u64::from(count[lane]);
        }
    }
    total
}

/// Makes at least `SAMPLE` bytes.
type Generate = fn(&mut Random) -> Vec<u8>;

fn inputs(files: &[String]) -> std::io::Result<Vec<Input>> {
    let mut out = Vec::new();
    for file in files {
        out.push(Input { name: file.clone(), bytes: sample(Path::new(file))? });
    }
    if files.is_empty() {
        let mut text = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"))?;
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text)?;
        out.push(Input { name: "this package's sources".to_owned(), bytes: text });
        out.push(Input { name: "this program".to_owned(), bytes: sample(&std::env::current_exe()?)? });
    }
    let generated: [(&str, Generate); 5] = [
        ("generated JSON", json),
        ("generated database pages", pages),
        ("generated base64", |r| letters(r, 64)),
        ("generated hex digits", |r| letters(r, 16)),
        ("random bytes", |r| r.bytes(SAMPLE)),
    ];
    for (name, generate) in generated {
        let mut bytes = generate(&mut Random::new(name));
        bytes.truncate(SAMPLE);
        out.push(Input { name: name.to_owned(), bytes });
    }
    Ok(out)
}

/// The whole file, or pieces at equal distances.
fn sample(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::new();
    if length <= SAMPLE as u64 {
        file.read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    let pieces = (SAMPLE / PIECE) as u64;
    for i in 0..pieces {
        file.seek(SeekFrom::Start((length - PIECE as u64) / (pieces - 1) * i))?;
        (&file).take(PIECE as u64).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Appends every file under `folder`, in order of names.
fn sources(folder: &Path, out: &mut Vec<u8>) -> std::io::Result<()> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            sources(&path, out)?;
        } else {
            out.extend(std::fs::read(path)?);
        }
    }
    Ok(())
}

/// The same bytes on every machine, from a label.
struct Random(blake3::OutputReader);

impl Random {
    fn new(label: &str) -> Random {
        Random(blake3::Hasher::new().update(label.as_bytes()).finalize_xof())
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut out = vec![0; n];
        self.0.fill(&mut out);
        out
    }

    /// A number under `n`, near enough uniform.
    fn below(&mut self, n: usize) -> usize {
        let mut out = [0; 4];
        self.0.fill(&mut out);
        u32::from_le_bytes(out) as usize % n
    }

    fn word(&mut self) -> &'static str {
        const WORDS: [&str; 48] = [
            "the",
            "of",
            "and",
            "to",
            "in",
            "a",
            "is",
            "that",
            "for",
            "it",
            "was",
            "on",
            "are",
            "as",
            "with",
            "file",
            "error",
            "return",
            "connection",
            "user",
            "request",
            "timeout",
            "message",
            "value",
            "name",
            "backup",
            "restore",
            "update",
            "failed",
            "server",
            "started",
            "version",
            "index",
            "table",
            "page",
            "not found",
            "warning",
            "session",
            "token",
            "context",
            "assistant",
            "result",
            "content",
            "status",
            "queue",
            "memory",
            "thread",
            "closed",
        ];
        WORDS[self.below(WORDS.len())]
    }

    fn sentence(&mut self, most: usize) -> String {
        let words: Vec<&str> = (0..=self.below(most)).map(|_| self.word()).collect();
        words.join(" ")
    }
}

/// Log records, one object a line.
fn json(r: &mut Random) -> Vec<u8> {
    let mut out = String::new();
    while out.len() < SAMPLE {
        let (hour, minute, second) = (r.below(24), r.below(60), r.below(60));
        let time =
            format!("2026-11-{:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", r.below(30), r.below(1000));
        let (id, user, score) = (r.below(1 << 31), r.below(5000), r.below(10_000));
        let line = format!(
            "{{\"id\": {id}, \"time\": \"{time}\", \"level\": \"info\", \"user\": {{\"name\": \"user{user}\", \
             \"active\": true, \"score\": {}.{:02}}}, \"message\": \"{}\", \"tags\": [\"{}\", \"{}\"]}}\n",
            score / 100,
            score % 100,
            r.sentence(12),
            r.word(),
            r.word(),
        );
        out.push_str(&line);
    }
    out.into_bytes()
}

/// Pages of 4096 bytes after SQLite's manner: header, cell pointers, a gap of zeros, rows packed to the end.
fn pages(r: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    let mut row_id = 1u64;
    while out.len() < SAMPLE {
        let mut page = vec![0; 4096];
        let (mut end, mut cells) = (4096, Vec::new());
        loop {
            let body = r.sentence(30);
            let mut row = vec![body.len() as u8, (row_id >> 14 & 127 | 128) as u8];
            row.extend([(row_id >> 7 & 127 | 128) as u8, (row_id & 127) as u8, 5, 0, 7, 23, 13, 28]);
            row.extend((1.7e9 + r.below(1_000_000) as f64 / 8.0).to_be_bytes());
            row.extend(body.bytes());
            row.extend(r.bytes(8));
            if end < row.len() + 8 + 2 * (cells.len() + 1) {
                break;
            }
            end -= row.len();
            page[end..end + row.len()].copy_from_slice(&row);
            cells.push(end as u16);
            row_id += 1;
        }
        page[0] = 13;
        page[3..5].copy_from_slice(&(cells.len() as u16).to_be_bytes());
        page[5..7].copy_from_slice(&(end as u16).to_be_bytes());
        for (i, cell) in cells.iter().enumerate() {
            page[8 + 2 * i..10 + 2 * i].copy_from_slice(&cell.to_be_bytes());
        }
        out.extend(page);
    }
    out
}

/// Random digits of base 16 or 64, in lines of 76.
fn letters(r: &mut Random, base: usize) -> Vec<u8> {
    const HEX: &[u8] = b"0123456789abcdef";
    const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = if base == 16 { HEX } else { BASE64 };
    let mut out = r.bytes(SAMPLE);
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = if i % 77 == 76 { b'\n' } else { digits[usize::from(*byte) % base] };
    }
    out
}
