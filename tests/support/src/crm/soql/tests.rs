use super::{Filter, Literal, Operator, Query, parse};

fn text(literal: &Literal) -> String {
    match literal {
        Literal::Text(letters) => letters.iter().map(|letter| letter.character).collect(),
        other => format!("{other:?}"),
    }
}

/// The condition with all parentheses written out.
fn shape(filter: &Filter) -> String {
    let parts = |parts: &[Filter], word: &str| {
        format!("({})", parts.iter().map(shape).collect::<Vec<_>>().join(&format!(" {word} ")))
    };
    match filter {
        Filter::All(all) => parts(all, "AND"),
        Filter::Any(any) => parts(any, "OR"),
        Filter::Not(part) => format!("NOT {}", shape(part)),
        Filter::Compare { field, operator, value } => format!("{field} {operator:?} {}", text(value)),
    }
}

#[test]
fn reads_what_the_skill_sends() {
    let query = parse(
        "SELECT Id, CaseNumber FROM Case WHERE AccountId = '001A0000001AAAA' AND IsClosed = false \
         ORDER BY CreatedDate DESC LIMIT 20",
    )
    .unwrap();
    let Query { fields, object, filter, order, limit } = query;
    assert_eq!((fields, object.as_str(), limit), (vec!["Id".to_owned(), "CaseNumber".to_owned()], "Case", Some(20)));
    assert_eq!(shape(&filter.unwrap()), "(AccountId Equal 001A0000001AAAA AND IsClosed Equal Bool(false))");
    let order = order.unwrap();
    assert_eq!((order.field.as_str(), order.descending), ("CreatedDate", true));
}

#[test]
fn conditions_nest_as_they_are_written() {
    for (condition, expected) in [
        ("A = 'x' OR B = 'y' AND C = 'z'", "(A Equal x OR (B Equal y AND C Equal z))"),
        ("(A = 'x' or B = 'y') and not C like 'z%'", "((A Equal x OR B Equal y) AND NOT C Like z%)"),
        (
            "A != null AND B <> 1 AND C >= -2",
            "(A NotEqual Null AND B NotEqual Number(1) AND C GreaterOrEqual Number(-2))",
        ),
    ] {
        let query = parse(&format!("select Id from Account where {condition}")).unwrap();
        assert_eq!(shape(&query.filter.unwrap()), expected, "{condition}");
    }
}

#[test]
fn literals_end_where_an_unescaped_quote_stands() {
    for (literal, expected) in [
        ("''", ""),
        (r"'O\'Brien'", "O'Brien"),
        (r"'x\' OR Name LIKE \'%'", "x' OR Name LIKE '%"),
        (r"'ends in a backslash\\'", r"ends in a backslash\"),
        (r#"'\"\n\t\\n'"#, "\"\n\t\\n"),
        (r"'\u0000\u00E9é'", "\0éé"),
    ] {
        let query = parse(&format!("SELECT Id FROM Account WHERE Name = {literal} LIMIT 1")).unwrap();
        let Some(Filter::Compare { operator: Operator::Equal, value, .. }) = query.filter else {
            panic!("{literal} was not one literal");
        };
        assert_eq!(text(&value), expected, "{literal}");
    }
}

#[test]
fn what_is_not_a_query_is_refused_with_the_place() {
    let deep = format!("SELECT Id FROM Account WHERE {}A = 'x'", "(".repeat(10_000));
    for (soql, says) in [
        ("", "unexpected end"),
        ("DELETE FROM Account", "unexpected token: DELETE"),
        ("SELECT Id FROM Account WHERE Name = 'O'Brien'", "without its closing quote"),
        ("SELECT Id FROM Account WHERE Name = 'O'Brien", "unexpected token: Brien"),
        ("SELECT Id FROM Account WHERE Name = 'x' --", "unexpected token: --"),
        ("SELECT Id FROM Account WHERE (Name = 'x'", "unexpected end"),
        ("SELECT Id FROM Account WHERE Name LIKE null", "LIKE needs a string"),
        ("SELECT Id FROM Account WHERE Name ~ 'x'", "unexpected token: ~"),
        (r"SELECT Id FROM Account WHERE Name = '\q'", r"illegal escape sequence: \q"),
        (r"SELECT Id FROM Account WHERE Name = '\u00é'", r"illegal escape sequence: \u"),
        ("SELECT Id FROM Account LIMIT many", "unexpected token: many"),
        ("SELECT Id FROM Account; SELECT", "unexpected token: ;"),
        (&deep, "more than 32 deep"),
    ] {
        let error = parse(soql).unwrap_err();
        assert_eq!(error.code(), "MALFORMED_QUERY");
        assert!(error.to_string().contains(says), "{soql}: {error}");
    }
}
