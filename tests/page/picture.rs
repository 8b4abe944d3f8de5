//! Pictures of the page for the documentation, small enough to keep.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::chromium::Chromium;

/// A picture of the window, as a PNG of 256 colours: two fifths of what the browser writes, and a page of text has
/// hardly more. The browser is also the one that unpacks and packs it, so that no crate is needed.
pub(crate) async fn of(chromium: &mut Chromium) -> Vec<u8> {
    let picture = chromium.call("Page.captureScreenshot", json!({"format": "png"})).await;
    chromium.open("about:blank").await;
    let reduced = chromium.value(&format!("({})({})", include_str!("picture.js"), picture["data"])).await;
    STANDARD.decode(reduced.as_str().unwrap()).unwrap()
}
