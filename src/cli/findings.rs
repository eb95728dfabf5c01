//! stub
use super::output::{Context, Outcome};
use crate::seal::judge::Finding;
pub(super) fn print(_c: &Context, _f: &[Finding]) -> Outcome {
    Ok(())
}
