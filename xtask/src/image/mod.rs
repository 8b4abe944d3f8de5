//! stub
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct Error;
/// hex
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
