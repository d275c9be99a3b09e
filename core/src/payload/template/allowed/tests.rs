use super::*;

#[test]
fn what_templates_may_do() {
    for text in [
        r#"{"a": {{ data.a | default("-") }}, "b": "{{ source ~ "/" ~ data.b }}"}"#,
        r#"{{ {"text": "for " ~ tenantid, "lines": [data.a, [data.b]]} }}"#,
        "{% for line in data.lines if line.n > 0 %}{{ loop.index }}: {{ line.name | upper }}{% endfor %}",
        "{% for x in data.lines[:5] %}{% for y in [x.a, x.b] %}{{ y }}{% endfor %}{% endfor %}",
        "{% for k, v in data | items %}{{ k }}={{ v }}{% if not loop.last %},{% endif %}{% endfor %}",
        "{% for x in data recursive %}{{ loop(x.children) }}{% endfor %}",
        "{% set lines = data.lines | selectattr('kind', 'eq', type) | map(attribute='name') | list %}{{ lines }}",
        "{% set n = namespace(sum=0) %}{% for x in data.l %}{% set n.sum = n.sum + x.n | float %}{% endfor %}",
        "{% set a, b = data.a, data.b %}{{ a }}{{ b }}",
        "{% set x = data.a + 1 %}{{ data.a + data.b }}{{ data.price * 100 }}{{ (data.price * 1.19) | round(2) }}",
        "{{ data.status == 'paid' and data.kind in ['a', 'b'] and type == data.type and 'x' in data.tags }}",
        "{{ 1 < data.n < 5 }}{{ data.a is none or data.a is eq 5 or data.a is in ['x', tenantid] }}",
        "{{ data.l | select('in', ['a', type]) | join(', ') }}{{ [data.a, data.b] | join(' ') }}",
        "{{ data.l | sort(attribute='n', reverse=true) | first }}{{ data.l | sum(attribute='n') * 2 }}",
        "{{ data.text | trim('-') | replace(data.a, '') | indent(2) }}{{ '%s: %s' | format(type, data.a) }}",
        "{% with total = data.a | int %}{{ total * total }}{{ 'x' * total }}{% endwith %}",
        "{% set total = data.price | float * data.count | int %}{{ data.a | string == data.b | string }}{{ data.a * 2 < 9 }}",
        "{% for i in range(data.n) %}{{ loop.cycle('odd', 'even') }}{% endfor %}",
        "{% for city, orders in data.l | groupby('city') %}{{ city }}: {{ orders | length }}{% endfor %}",
        "{% set colors = {'ok': 'green', 'failed': 'red'} %}{{ colors[data.status] }}",
    ] {
        assert_eq!(check(text), Ok(()), "{text}");
    }
}

fn assert_refused(table: &[(&str, &str)]) {
    for (text, says) in table {
        let (line, why) = check(text).expect_err(text);
        assert!(why.contains(says), "{text}: {why}");
        assert_eq!(line, Some(1 + text.matches('\n').count()), "{text}");
    }
}

#[test]
fn no_value_has_the_data_in_it_many_times() {
    let joined = format!("{{{{ [{}] | join }}}}", "data.a, ".repeat(17));
    let grouped = "{% for x in x | groupby('0') %}".repeat(5) + &"{% endfor %}".repeat(5);
    let formatted = format!("{{{{ '%s' | format({}) }}}}", "data.a, ".repeat(17));
    assert_refused(&[
        ("{% set x = [data, data] %}", "can't be kept"),
        ("{% set x = {'a': data} %}", "can't be kept"),
        ("{% set x = (data, 1) %}", "can't be kept"),
        ("{% set x = [1] %}{% set y = [x, x] %}", "can't be kept"),
        ("{% set s = data.a ~ '' %}{% set x = [s, s, s, s, s, s, s, s] %}", "can't be kept"),
        ("{% set y = x %}{% set y = data.l + y %}{% set x = data %}", "can't be kept"),
        ("{% set a = b %}{% set b = c %}{% set c = d %}{% set d = data %}{% set x = a + a %}", "can't be kept"),
        ("{% set x = data * 1000000 %}", "can't be kept"),
        ("{% set x = [0] * 1000000 %}", "can't be kept"),
        ("{% with x = [data] %}{% endwith %}", "can't be kept"),
        ("{% for x in [[data, data]] %}{% endfor %}", "can't be kept"),
        ("{% set x = data.a | default([data]) %}", "can't be kept"),
        ("{% set x = data or [data] %}", "can't be kept"),
        ("{% set x = [[data]][0] %}", "can't be kept"),
        ("{% set x = data.l | groupby('a') %}", "can't be kept"),
        ("{{ data.l | groupby('a') | groupby('list') }}", "groupby takes no list"),
        (&grouped, "groupby at most 4 times"),
        ("{% set n = namespace() %}{% set n.x = data %}", "a namespace keeps no lists"),
        ("{% set n = namespace(x=data) %}", "there is no function namespace"),
        ("{{ [data] * 1000000 ~ '' }}", "~ takes no list"),
        ("{{ [0] * 100000000 ~ '' }}", "~ takes no list"),
        ("{{ ([0] * 100000000) | tojson }}", "tojson takes no list"),
        ("{{ [[data]] | join }}", "join takes no list"),
        (&joined, "join takes no list"),
        (&formatted, "more than 16 arguments"),
        ("{{ data | map('default', data, true) }}", "map doesn't take"),
        ("{{ data | map(attribute='a', default=data) }}", "map doesn't take"),
        ("{{ data | batch(1000, data) }}", "batch doesn't take"),
        ("{{ data | zip(data) }}", "there is no filter zip"),
        ("{{ data | chain(data) }}", "there is no filter chain"),
        ("{{ dict(a=data) }}", "there is no function dict"),
    ]);
}

#[test]
fn nothing_is_compared_or_gone_through_without_a_bound() {
    let deep = format!("{{{{ data.a{} }}}}", " + 1".repeat(100));
    let many = format!("{{{{ [{}] }}}}", "data | upper, ".repeat(257));
    let long = format!("{{{{ data | sort(attribute='{}') }}}}", "a,".repeat(100));
    assert_refused(&[
        ("{{ data.a == data.b }}", "both sides of a comparison"),
        ("{{ [0] * 100000000 == [0] * 100000000 }}", "both sides of a comparison"),
        ("{{ 1 < data.a < data.b }}", "both sides of a comparison"),
        ("{{ data.a in data.b }}", "both sides of a comparison"),
        ("{{ data.a not in [data.b] }}", "both sides of a comparison"),
        ("{{ data.a is ge data.b }}", "both sides of a comparison"),
        ("{{ data | select('eq', data.a) }}", "select doesn't take"),
        ("{{ data | rejectattr('a', data.test) }}", "rejectattr doesn't take"),
        ("{% for x in data %}{{ loop.changed(x) }}{% endfor %}", "values have no functions"),
        ("{{ data.a | trim(data.b) }}", "trim doesn't take"),
        ("{{ data | sort(attribute=data.b) }}", "sort doesn't take"),
        ("{{ data | tojson(indent=1000000) }}", "tojson doesn't take"),
        ("{{ data | indent(*data.a) }}", "* and **"),
        ("{{ debug() }}", "there is no function debug"),
        ("{{ data.items() }}", "values have no functions"),
        (&long, "sort doesn't take"),
        (&deep, "nested more than 100 deep"),
        (&many, "at most 256 filters"),
        ("\n{{ x | nothing }}", "there is no filter nothing"),
        ("{{ x is nothing }}", "there is no test nothing"),
    ]);
    // Each expression is looked at once, however they are nested.
    let nested = format!("{{{{ {}1{} }}}}", "1 in [".repeat(40), "]".repeat(40));
    assert_eq!(check(&nested), Ok(()));
}
