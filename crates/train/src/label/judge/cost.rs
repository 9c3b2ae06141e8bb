//! What judging will take, said before it begins.

use agentflow_llm::{Message, Usage};

/// Tokens of a reply: seven keys with their values, and a sentence.
const REPLY: u64 = 150;

/// Tokens of `text`, about: a digit is one, as Qwen's tokenizers have it, and so are three bytes of anything else.
///
/// English prose has more than four bytes a token, so this errs on the high side, as what guards a budget should.
pub fn tokens(text: &str) -> u64 {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (digits + (text.len() - digits).div_ceil(3)) as u64
}

/// What one rating will take. A judge that thinks is taken to think as long as it may.
pub(super) fn of_rating(messages: &[Message], think: bool, max_tokens: u32) -> Usage {
    let prompt_tokens = messages.iter().map(|message| tokens(&message.content)).sum();
    let most = u64::from(max_tokens);
    Usage { prompt_tokens, completion_tokens: if think { most } else { REPLY.min(most) } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_count_one_by_one() {
        assert_eq!(tokens("123456"), 6);
        assert_eq!(tokens("abcdef"), 2);
        assert_eq!(tokens("x = 12"), 2 + 2);
        assert_eq!(tokens(""), 0);
    }
}
