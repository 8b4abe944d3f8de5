//! stub
use super::certificates::Keys;
use super::{Error, Folder, Parts, State};
pub(super) fn prepare(_parts: &Parts) -> Result<(), Error> {
    Ok(())
}
pub(super) fn start(_f: &Folder, _s: &mut State, _p: &Parts, _k: &Keys) -> Result<(), Error> {
    Ok(())
}
pub(super) fn clear(_f: &Folder, _n: &str) -> Result<bool, Error> {
    Ok(false)
}
pub(super) fn is_shim(_i: &super::process::Identity) -> bool {
    false
}
