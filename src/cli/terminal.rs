//! What a terminal is shown: text that the cluster or a daemon supplied must not steer it.
//!
//! Names, conditions and messages may hold escape sequences, which move the cursor, rewrite what stands there, or set
//! the clipboard (CVE-2021-25743 is this fault of kubectl). Everything that is printed passes through [`shown`], which
//! leaves no control character in it. Styles of our own are marks until then, so that they are distinguished.

use clap::builder::styling::{AnsiColor, Style};

use super::output::Tone;

/// The first mark: one for each tone. Marks are noncharacters of Unicode, which no text is meant to hold; one that does
/// is coloured and nothing else.
const FIRST: u32 = 0xFDD0;
/// The end of a style.
const END: char = '\u{FDDF}';

const TONES: [Tone; 5] = [Tone::Bad, Tone::Attention, Tone::Good, Tone::Faint, Tone::Strong];

/// A text with the marks of a style around it.
pub(super) fn marked(tone: Tone, text: &str) -> String {
    let place = TONES.iter().position(|known| *known == tone).and_then(|place| u32::try_from(place).ok());
    match place.and_then(|place| char::from_u32(FIRST + place)) {
        Some(mark) => format!("{mark}{text}{END}"),
        None => text.to_owned(),
    }
}

/// A text as a terminal may be given it: marks as styles, and no control character but line breaks and tabs.
pub(super) fn shown(text: &str) -> String {
    let mut open = None;
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if let Some(tone) = tone_of(character) {
            let style = style(tone);
            shown.push_str(&style.render().to_string());
            open = Some(style);
        } else if character == END {
            if let Some(style) = open.take() {
                shown.push_str(&style.render_reset().to_string());
            }
        } else if is_harmless(character) {
            shown.push(character);
        }
    }
    if let Some(style) = open {
        shown.push_str(&style.render_reset().to_string());
    }
    shown
}

/// The same JSON with what must not reach a terminal escaped. It stands in strings only, of which JSON itself escapes
/// the first 32 characters and no others.
pub(super) fn escaped_json(json: &str) -> String {
    use std::fmt::Write as _;

    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if is_harmless(character) && tone_of(character).is_none() && character != END {
            escaped.push(character);
        } else {
            let mut units = [0; 2];
            for unit in character.encode_utf16(&mut units) {
                // Writing to a String cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

fn tone_of(character: char) -> Option<Tone> {
    let place = u32::from(character).checked_sub(FIRST)?;
    TONES.get(usize::try_from(place).ok()?).copied()
}

/// Neither a control character (C0, DEL, C1) nor one that changes the direction of what stands around it.
fn is_harmless(character: char) -> bool {
    match character {
        '\n' | '\t' => true,
        // Marks of direction, and the separators of lines and paragraphs.
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => false,
        other => !other.is_control(),
    }
}

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Bad => AnsiColor::Red.on_default().bold(),
        Tone::Attention => AnsiColor::Yellow.on_default(),
        Tone::Good => AnsiColor::Green.on_default(),
        Tone::Faint => Style::new().dimmed(),
        Tone::Strong => Style::new().bold(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_removed_except_line_breaks_and_styles() {
        for (text, expected) in [
            ("plain\n\ttext — ü 漢", "plain\n\ttext — ü 漢"),
            ("a\x1b[2J\x1b[31mb", "a[2J[31mb"),
            ("a\x1b]0;title\x07b", "a]0;titleb"),
            ("over\rwritten\x08\x08", "overwritten"),
            ("c1 \u{9b}31m \u{9d}0;x\u{9c} \u{85}", "c1 31m 0;x "),
            ("del\x7f null\0", "del null"),
            ("bidi \u{202e}gpj.exe\u{2066}x\u{2069}", "bidi gpj.exex"),
            ("lines\u{2028}apart", "linesapart"),
        ] {
            assert_eq!(shown(text), expected, "{text:?}");
        }
        let painted = shown(&marked(Tone::Bad, "a\x1b[0mb"));
        assert_eq!(painted, "\x1b[1m\x1b[31ma[0mb\x1b[0m");
        assert_eq!(shown("\u{fdd0}never ended"), "\x1b[1m\x1b[31mnever ended\x1b[0m");
    }

    #[test]
    fn json_stays_the_same_data() {
        let value = serde_json::json!({"a": "\x1b[1m\u{9b}x\u{7f}\u{202e}\u{fdd0}\n😀"});
        let escaped = escaped_json(&value.to_string());
        assert!(escaped.chars().all(|character| !character.is_control()), "{escaped:?}");
        assert_eq!(shown(&escaped), escaped);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }
}
