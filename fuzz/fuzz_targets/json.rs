//! JSON texts of any bytes: the check in pieces and whole agree, trees, differences and splices do not panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snapkeep::json::Form;
use snapkeep::json::differ::edits;
use snapkeep::json::doc::Doc;
use snapkeep::json::patch::Patch;
use snapkeep::json::pointer::Pointer;
use snapkeep::json::splice::put;
use snapkeep::json::stream::{Validator, check};

fuzz_target!(|data: &[u8]| {
    let Some((&size, data)) = data.split_first() else { return };
    for form in [Form::Document, Form::Lines] {
        let mut validator = Validator::new(form);
        data.chunks(usize::from(size % 17) + 1).for_each(|piece| validator.feed(piece));
        assert_eq!(validator.finish(), check(data, form));
    }
    // Two texts, a pointer and a value, between line feeds.
    let mut parts = data.splitn(4, |b| *b == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let (pointer, value, a, b) = (next(), next(), next(), next());
    let pointer = std::str::from_utf8(pointer).ok().and_then(|text| Pointer::parse(text).ok());
    let Ok(a) = Doc::parse(a) else { return };
    if let Some(pointer) = pointer
        && let Ok(spliced) = put(&a, &pointer, value)
    {
        assert!(Doc::parse(&spliced.text).is_ok());
    }
    if let Ok(b) = Doc::parse(b) {
        let found = edits(&a, &b, 100);
        assert_eq!(Patch::between(&a, &b).is_empty(), found.list.is_empty());
        assert_eq!(found.list.is_empty(), a.same(a.root(), &b, b.root()));
    }
});
