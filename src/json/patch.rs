//! JSON Patch (RFC 6902): the operations that turn one value into another.

use super::differ::steps;
use super::doc::Doc;

/// Bytes of the largest patch; instead of a larger one the whole value is replaced.
const PATCH_MAX: usize = 64 << 20;

/// Operations, each compact JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// One after another, each followed by a line feed; none holds one.
    text: Vec<u8>,
}

impl Patch {
    /// Applied to `a`, it gives `b`: the same keys, values and order of elements; numbers as they are written.
    pub fn between(a: &Doc<'_>, b: &Doc<'_>) -> Self {
        Patch::within(a, b, PATCH_MAX)
    }

    fn within(a: &Doc<'_>, b: &Doc<'_>, room: usize) -> Self {
        let mut patch = Patch::default();
        steps(a, b, &mut |step| {
            if let Some(operation) = step.operation
                && patch.text.len() <= room
            {
                patch.add(operation, step.live_path, step.new.map(|node| (b, node)));
            }
        });
        if patch.text.len() > room {
            patch.text.clear();
            patch.add("replace", "", Some((b, b.root())));
        }
        patch
    }

    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Adds one operation.
    fn add(&mut self, operation: &str, path: &str, value: Option<(&Doc<'_>, u32)>) {
        let path = serde_json::to_string(path).unwrap_or_default();
        self.text.extend_from_slice(format!("{{\"op\":\"{operation}\",\"path\":{path}").as_bytes());
        if let Some((doc, node)) = value {
            self.text.extend_from_slice(b",\"value\":");
            doc.compact_into(node, &mut self.text);
        }
        self.text.extend_from_slice(b"}\n");
    }

    /// The whole patch, on one line or an operation a line.
    pub fn json(&self, lines: bool) -> String {
        let text = String::from_utf8_lossy(&self.text);
        let between = if lines { ",\n " } else { "," };
        let operations: Vec<&str> = text.lines().collect();
        format!("[{}]", operations.join(between))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_that_grows_too_large_replaces_the_whole() {
        let a = Doc::parse(b"[1,2,3]").expect("JSON");
        let b = Doc::parse(b"[4, 5, 6, 7]").expect("JSON");
        assert!(Patch::within(&a, &b, 1000).json(false).matches("\"op\"").count() > 1);
        let whole = Patch::within(&a, &b, 30);
        assert_eq!(whole.json(false), r#"[{"op":"replace","path":"","value":[4,5,6,7]}]"#);
    }
}
