//! What bytes look like, told by a glance: bytes of one kind share statistics, so they share a body.

/// Kinds of content that compress better apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Mostly decimal digits: long matches are rare and the search for them does harm.
    Figures,
    /// Many bytes no text has: programs, pictures, what is compressed or encrypted.
    Binary,
}

impl Kind {
    pub const COUNT: usize = 3;
    pub const ALL: [Kind; Kind::COUNT] = [Kind::Text, Kind::Figures, Kind::Binary];

    /// Looks at two short stretches, away from headers. Wrong guesses cost bytes, nothing else.
    pub fn of(bytes: &[u8]) -> Kind {
        const LOOK: usize = 64;
        let (mut figures, mut binary, mut seen) = (0, 0, 0);
        let mut look = |part: &[u8]| {
            seen += part.len();
            figures += part.iter().filter(|b| b.is_ascii_digit()).count();
            binary += part.iter().filter(|b| !(9..0x80).contains(*b)).count();
        };
        if bytes.len() <= 2 * LOOK {
            look(bytes);
        } else {
            for third in 1..=2 {
                let at = (bytes.len() - LOOK) * third / 3;
                look(&bytes[at..at + LOOK]);
            }
        }
        if binary * 4 > seen {
            Kind::Binary
        } else if figures * 2 > seen {
            Kind::Figures
        } else {
            Kind::Text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glance_tells_text_figures_and_binary_apart() {
        let text = b"fn main() { println!(\"42 is the answer\"); }\n".repeat(50);
        let figures = b"123456,98431,55023,1,".repeat(80);
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let binary: Vec<u8> = (0..3000).map(|_| random()).collect();
        for cut in [200, 256, 257, 900] {
            assert_eq!(Kind::of(&text[..cut]), Kind::Text);
            assert_eq!(Kind::of(&figures[..cut]), Kind::Figures);
            assert_eq!(Kind::of(&binary[..cut]), Kind::Binary);
        }
        assert_eq!(Kind::of(b""), Kind::Text);
    }
}
