//! x
use super::export::Export;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::sqlite::query::Reading;
pub fn map(_: &Reading, _: &mut dyn Export, _: &Progress) -> Result<(String, Vec<String>)> {
    Err(Error::invalid("x"))
}
