//! Tokens, as they are pasted, and successions, as they are found in certificates.

use p2p_protocol::{
    limits::{MAX_SUCCESSIONS, MAX_TOKEN_ADDRESSES, MAX_TOKEN_TEXT_LEN},
    succession::Succession,
    token::{Secret, Token, looks_like_token},
};

/// The first byte says whether the others are the text, or the bytes that it stands for, to which the checksum is added so that
/// something is behind it.
///
/// What is understood has exactly one spelling but for case and blanks, keeps to the limits, and no text is shown that is not the
/// token's own.
pub fn tokens(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if let Some(list) = Succession::find(bytes) {
        let said = list.encode();
        assert!(bytes.windows(said.len()).any(|window| window == said), "what is found is there");
        assert_eq!(Succession::find(&said).as_ref(), Some(&list));
        assert!(list.predecessors(&[0; 32], |_, _, _| true).is_some_and(|ids| ids.len() <= MAX_SUCCESSIONS));
    }
    let text = match kind % 3 {
        0 => String::from_utf8_lossy(bytes).into_owned(),
        kind => {
            let prefix = if kind == 1 { "p2pinvite" } else { "p2pticket" };
            let mut hasher = blake3::Hasher::new_derive_key("p2p 2026-11-26 checksum of a token");
            let sum = hasher.update(prefix.as_bytes()).update(bytes).finalize();
            format!("{prefix}{}", data_encoding::BASE32_NOPAD.encode(&[bytes, &sum.as_bytes()[..4]].concat()))
        }
    };
    let token = match text.parse::<Token>() {
        Ok(token) => token,
        Err(error) => return assert!(!error.to_string().chars().any(char::is_control), "{error}"),
    };
    let Token { grant, peer, addresses, .. } = &token;
    assert!(addresses.len() <= MAX_TOKEN_ADDRESSES && text.len() <= MAX_TOKEN_TEXT_LEN);
    let again = token.to_string();
    assert!(again.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{again}");
    let squeezed: String = text.split_ascii_whitespace().collect();
    assert_eq!(squeezed.to_ascii_lowercase(), again, "a token has one spelling");
    assert_eq!(again.parse().as_ref(), Ok(&token));
    let other = Token::new(*grant, *peer, Secret::new([0x5a; 16]), addresses.clone());
    assert_eq!(&other.addresses, addresses, "what was understood can be said");
    assert_eq!(token.id() == other.id(), token == other);
    assert!(looks_like_token(&again));
}
