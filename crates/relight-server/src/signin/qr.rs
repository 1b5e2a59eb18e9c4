//! QR codes that apps read a secret from.

use std::fmt::Write as _;

use qrcode::render::unicode::Dense1x2;
use qrcode::{Color, QrCode};
use zeroize::Zeroizing;

use crate::error::{Result, ServerError};

/// A QR code.
pub struct QrPicture(QrCode);

impl QrPicture {
    /// Of a text.
    ///
    /// # Errors
    /// It is too long for one.
    pub fn of(text: &str) -> Result<Self> {
        let failed = |error| ServerError::System(format!("make a QR code: {error}"));
        QrCode::new(text).map(Self).map_err(failed)
    }

    /// Modules of a side, without the quiet zone.
    pub fn side(&self) -> usize {
        self.0.width()
    }

    /// Its dark modules as the path of an SVG of [`QrPicture::side`] units.
    pub fn path(&self) -> Zeroizing<String> {
        let mut path = Zeroizing::new(String::new());
        let (side, modules) = (self.side(), self.0.to_colors());
        for (row, colors) in modules.chunks(side).enumerate() {
            let mut column = 0;
            while column < side {
                let dark = colors[column..]
                    .iter()
                    .take_while(|color| **color == Color::Dark)
                    .count();
                if dark > 0 {
                    // A String takes everything.
                    let _ = write!(path, "M{column} {row}h{dark}v1h-{dark}z");
                }
                column += dark.max(1);
            }
        }
        path
    }

    /// For a terminal with light characters on a dark ground: half blocks, two modules a character.
    pub fn lines(&self) -> Zeroizing<String> {
        let mut renderer = self.0.render::<Dense1x2>();
        renderer.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark);
        Zeroizing::new(renderer.quiet_zone(true).build())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_every_dark_module_once() {
        let qr = QrPicture::of("otpauth://totp/backup:jane%40pbs?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")
            .unwrap();
        let path = qr.path();
        let dark: usize = path
            .split('h')
            .skip(1)
            .filter_map(|part| {
                part.split('v')
                    .next()
                    .and_then(|count| count.parse::<usize>().ok())
            })
            .sum();
        let expected =
            qr.0.to_colors()
                .iter()
                .filter(|color| **color == Color::Dark)
                .count();
        assert_eq!(dark, expected);
        // The upper left corner is that of a finder pattern.
        assert!(path.starts_with("M0 0h7v1h-7z"), "{}", *path);
        assert!(QrPicture::of(&"x".repeat(10_000)).is_err());
    }
}
