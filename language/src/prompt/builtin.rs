//! Chat formats that are known without a file.

use crate::tokenizer::Tokenizer;

/// A chat format by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// Ours: `<bos>system<user><image>question<assistant>answer<eos>`.
    SwinSeek,
    /// DeepSeek LLM, MoE, Coder V2 and V2: `User: .. Assistant: ..` with blank lines.
    DeepSeekLlm,
    /// DeepSeek V2.5, V3 and R1: `<｜User｜>..<｜Assistant｜>..`; of an assistant's turn only what follows `</think>`.
    DeepSeekV3,
    /// DeepSeek V3.1 and V3.2: the assistant's turn begins with `</think>`, or with `<think>` when the variable
    /// `thinking` is true.
    DeepSeekV31,
    /// DeepSeek VL2: `<|User|>: <image> .. <|Assistant|>: ..`.
    DeepSeekVl2,
}

/// Special tokens of our own tokenizer; their places in this list are their ids.
pub const SPECIAL_TOKENS: [&str; 6] = ["<pad>", "<bos>", "<eos>", "<image>", "<user>", "<assistant>"];

/// The template of our own models.
pub const OWN_TEMPLATE: &str = "\
{{- bos_token -}}
{%- for message in messages -%}
    {%- if message['role'] == 'user' -%}{{- '<user>' -}}
    {%- elif message['role'] == 'assistant' -%}{{- '<assistant>' -}}
    {%- elif message['role'] != 'system' or not loop.first -%}
        {{- raise_exception('role `' ~ message['role'] ~ '`, expected user or assistant, or system in front') -}}
    {%- endif -%}
    {%- if message['content'] is string -%}{{- message['content'] -}}
    {%- else -%}
        {%- for part in message['content'] -%}
            {%- if part['type'] == 'image' -%}{{- '<image>' -}}{%- else -%}{{- part['text'] -}}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {%- if message['role'] == 'assistant' -%}{{- eos_token -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<assistant>' -}}{%- endif -%}";

const DEEPSEEK_LLM: &str = "\
{{- bos_token -}}
{%- for message in messages -%}
    {%- if message['role'] == 'user' -%}{{- 'User: ' + message['content'] + '\\n\\n' -}}
    {%- elif message['role'] == 'assistant' -%}{{- 'Assistant: ' + message['content'] + eos_token -}}
    {%- elif message['role'] == 'system' -%}{{- message['content'] + '\\n\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}";

const DEEPSEEK_V3: &str = "\
{%- set ns = namespace(system='') -%}
{%- for message in messages if message['role'] == 'system' -%}
    {%- set ns.system = ns.system + ('' if loop.first else '\\n\\n') + message['content'] -%}
{%- endfor -%}
{{- bos_token + ns.system -}}
{%- for message in messages -%}
    {%- if message['role'] == 'user' -%}{{- '<｜User｜>' + message['content'] -}}
    {%- elif message['role'] == 'assistant' -%}
        {{- '<｜Assistant｜>' + PREFIXmessage['content'].split('</think>')[-1] + eos_token -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<｜Assistant｜>'OPENING -}}{%- endif -%}";

const DEEPSEEK_VL2: &str = "\
{{- bos_token -}}
{%- for message in messages -%}
    {%- if message['role'] == 'user' -%}{{- '<|User|>: ' + message['content'] + '\\n\\n' -}}
    {%- elif message['role'] == 'assistant' -%}{{- '<|Assistant|>: ' + message['content'] + eos_token -}}
    {%- elif message['role'] == 'system' -%}{{- message['content'] + '\\n\\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|Assistant|>:' -}}{%- endif -%}";

impl Builtin {
    /// Jinja source.
    pub fn source(self) -> String {
        match self {
            Self::SwinSeek => OWN_TEMPLATE.into(),
            Self::DeepSeekLlm => DEEPSEEK_LLM.into(),
            Self::DeepSeekV3 => DEEPSEEK_V3.replace("PREFIX", "").replace("OPENING", ""),
            Self::DeepSeekV31 => DEEPSEEK_V3
                .replace("PREFIX", "'</think>' + ")
                .replace("OPENING", " + ('<think>' if thinking is defined and thinking else '</think>')"),
            Self::DeepSeekVl2 => DEEPSEEK_VL2.into(),
        }
    }

    /// The format whose turn markers `tokenizer` knows; the one of plain words when it knows none.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let knows = |token: &str| tokenizer.id(token).is_some();
        match () {
            () if knows("<user>") && knows("<assistant>") => Self::SwinSeek,
            () if knows("<｜User｜>") => Self::DeepSeekV3,
            () if knows("<|User|>") => Self::DeepSeekVl2,
            () => Self::DeepSeekLlm,
        }
    }
}
