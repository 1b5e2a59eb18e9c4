//! QR codes of recovery keys.

use qrcode::{EcLevel, QrCode, render::svg, render::unicode};
use zeroize::Zeroizing;

/// The code of a recovery key's text. Digits, capitals and dashes use the dense alphanumeric mode; a quarter of the
/// area may be soiled (level Q).
fn code(text: &str) -> QrCode {
    QrCode::with_error_correction_level(text, EcLevel::Q)
        .expect("53 characters fit well below the largest code")
}

/// What a QR code made of characters is shown on. A code with its colours exchanged is read by some scanners only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// Light characters on a dark ground, as most terminals have.
    Dark,
    /// Dark characters on a light ground, as paper has.
    Light,
}

/// Lines of half blocks, two modules a character, with the quiet zone around.
pub(super) fn text(text: &str, background: Background) -> Zeroizing<String> {
    let (dark, light) = match background {
        Background::Dark => (unicode::Dense1x2::Light, unicode::Dense1x2::Dark),
        Background::Light => (unicode::Dense1x2::Dark, unicode::Dense1x2::Light),
    };
    let image = code(text)
        .render()
        .dark_color(dark)
        .light_color(light)
        .quiet_zone(true)
        .build();
    Zeroizing::new(image)
}

/// An SVG image, for print.
pub(super) fn svg(text: &str) -> Zeroizing<String> {
    let image = code(text)
        .render::<svg::Color<'_>>()
        .min_dimensions(240, 240)
        .quiet_zone(true)
        .build();
    Zeroizing::new(image)
}
