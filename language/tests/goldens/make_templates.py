"""Writes templates.json: chat templates with the output of Jinja2, set up as in transformers' apply_chat_template."""

import json
from datetime import datetime, timezone
from pathlib import Path

from jinja2.exceptions import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = 1735689599  # 2024-12-31 23:59:59 UTC

TEMPLATES = {
    "chatml": """{% for message in messages %}
{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\n' }}
{% endif %}""",
    "llama3": """{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start|>' + message['role'] + '<|end|>\n\n'+ message['content'] | trim + '<|eot|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}""",
    "mistral": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"].strip() + "[/INST]" }}
        {%- endif %}
    {%- else %}
        {{- " " + message["content"].strip() + eos_token}}
    {%- endif %}
{%- endfor %}""",
    "reasoning": """{%- set ns = namespace(last=-1, count=0) -%}
{%- for m in messages[::-1] -%}{%- if m.role == 'user' and ns.last < 0 -%}{%- set ns.last = (messages|length - 1) - loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for m in messages -%}
  {%- set c = m.content -%}
  {%- if '</think>' in c -%}{%- set c = c.split('</think>')[-1].lstrip('\n') -%}{%- endif -%}
  {%- if c.startswith('The') or c.endswith('?') -%}{%- set ns.count = ns.count + 1 -%}{%- endif -%}
  {{ loop.index }}:{{ m['role']|upper }}:{{ c.replace('lungs', 'lobes').rstrip() }}{% if not loop.last %}|{% endif %}
{%- endfor -%}
#{{ ns.last }},{{ ns.count }}""",
    "tools": """{{ variables_tools | tojson }}
{{ variables_tools | tojson(indent=2) }}
{%- for t in variables_tools %}
{{ t.get('name', '?') }}/{{ t.get('missing', 'none') }}:{% for k, v in t.items() %}{{ k }}={{ v }};{% endfor %}
{%- endfor %}
{{ messages[0] | tojson }}""",
    "date": """{%- set date = strftime_now("%d %b %Y, %A %B %j %H:%M:%S %y %m %a %%") -%}
Today: {{ date }}""",
    "whitespace": """
  {% if true %}
    a
  {% endif %}
  {#- a comment -#}
	{%- for x in [1, 2, 3, 4] %}
    {%- if x == 2 %}{% continue %}{% endif %}
    {%- if x == 4 %}{% break %}{% endif %}
    <{{ x }}>
  {% endfor %}
end
""",
    "tests": """{{ none is none }},{{ missing is defined }},{{ 'a' is string }},{{ [1] is iterable }},{{ messages[0] is mapping }},{{ messages | selectattr('role', 'equalto', 'user') | list | length }},{{ ['a','b'] | join('+') }},{{ missing | default('d') }},{{ 7 // 2 }},{{ 7 % 4 }},{{ 2 ** 3 }},{{ 'x' ~ 1 ~ none }},{{ 'Abc'.lower() ~ 'abc'.upper() ~ 'a b'.title() }},{{ messages | map(attribute='role') | join(',') }},{{ "q" if not true else "r" }},{{ messages[-1].content[:3] }},{{ 1 in [1, 2] }},{{ true and false or 'z' }}""",
    "macro": """{%- macro turn(role, text='-') -%}[{{ role }}:{{ text | trim }}]{%- endmacro -%}
{%- for m in messages -%}{{ turn(m.role, m.content) }}{%- if loop.previtem is defined and loop.previtem.role == m.role %}!{% endif -%}{%- endfor -%}{{ turn('x') }}""",
    "unicode": "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '<｜User｜>' + m['content'] }}{% else %}{{ '<｜Assistant｜>' + m['content'] + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}",
    "broken": "line one\n{{ raise_exception('only user messages') }}",
}

CONVERSATIONS = [
    [["user", "Is there a nodule?"]],
    [["system", "You read images."], ["user", " Describe <the> 'image' & \"more\".\n"], ["assistant", "<think>hm</think>\n\nThe lungs are clear. "], ["user", "Größe in cm? 结节"]],
    [["user", "a"], ["user", "b"]],
]

TOOLS = [{"name": "measure", "parameters": {"zebra": 1, "apple": [1.5, True, None], "text": "é<b>&'\""}}, {"description": "no name"}]


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise TemplateError(message)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
environment.filters["tojson"] = tojson
environment.globals["raise_exception"] = raise_exception
environment.globals["strftime_now"] = lambda form: datetime.fromtimestamp(NOW, timezone.utc).strftime(form)

cases = []
for name, source in TEMPLATES.items():
    for conversation in CONVERSATIONS:
        for generation in (True, False):
            messages = [{"role": role, "content": content} for role, content in conversation]
            try:
                expected = environment.from_string(source).render(messages=messages, bos_token="<s>", eos_token="</s>",
                                                                  add_generation_prompt=generation, variables_tools=TOOLS)
            except TemplateError as error:
                expected = {"error": str(error)}
            cases.append({"name": name, "messages": messages, "add_generation_prompt": generation, "expected": expected})

data = {"now": NOW, "tools": TOOLS, "templates": TEMPLATES, "cases": cases}
Path(__file__).with_name("templates.json").write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", newline="\n")
