//! A token as a picture for another machine's camera.

use p2p_protocol::reason::Failure;
use qrcode::{QrCode, render::unicode::Dense1x2};

use crate::{context::Context, error::CliError};

/// Shows a token on the terminal.
pub(crate) fn show(ctx: &Context, token: &str) -> Result<(), CliError> {
    picture(token)?.lines().for_each(|line| ctx.out.say(line));
    Ok(())
}

/// Light on dark, as most terminals are, with the margin that a camera needs. Capital letters make it smaller, and mean the same.
fn picture(token: &str) -> Result<String, CliError> {
    let code = QrCode::new(token.to_ascii_uppercase()).map_err(|error| {
        CliError::new(Failure::Other, format!("the token does not fit a QR code: {error}"))
    })?;
    Ok(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

#[cfg(test)]
mod tests {
    use p2p_protocol::name::printable;

    use super::*;

    #[test]
    fn a_picture_is_square_and_can_be_shown() {
        let picture = picture(&format!("p2pinvite{}", "a".repeat(200))).unwrap();
        let lines: Vec<&str> = picture.lines().collect();
        let width = lines[0].chars().count();
        assert!(width <= 80 && lines.len().abs_diff(width / 2) <= 1, "{width} by {}", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() == width && printable(line) == **line));
    }
}
