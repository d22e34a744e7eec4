//! The front page as HTML: one self-contained document, nothing loaded from elsewhere.
//!
//! Invariant: every text that came from outside goes through [`escape`].

use serde_json::Value;

const PAGE: &str = include_str!("page.html");

/// Rows of the details table: label and field.
const DETAILS: [(&str, &str); 8] = [
    ("Author", "author"),
    ("Year", "year"),
    ("Type", "type"),
    ("Pages", "pages"),
    ("Publisher", "publisher"),
    ("Language", "language"),
    ("ISBN-10", "ISBN-10"),
    ("ISBN-13", "ISBN-13"),
];
const STARS_MAX: u64 = 5;

/// The page; `None` for a part whose service did not answer.
pub fn render(
    product: &Value,
    details: Option<&Value>,
    reviews: Option<&Value>,
    user: Option<&str>,
) -> String {
    let title = text(&product["title"]);
    let parts = [
        ("title", title),
        ("description", text(&product["descriptionHtml"])),
        ("session", session(user)),
        ("details", details.map_or_else(|| sorry("product details"), details_table)),
        ("served_by", served_by(reviews)),
        ("reviews", reviews.map_or_else(|| sorry("product reviews"), reviews_list)),
    ];
    fill(PAGE, &parts)
}

/// Replaces each `{{name}}` once, left to right: what is put in is never looked at again.
fn fill(template: &str, parts: &[(&str, String)]) -> String {
    let mut page = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let Some((name, after)) = after.split_once("}}") else { break };
        page.extend(parts.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str()));
        rest = after;
    }
    page.push_str(rest);
    page
}

fn session(user: Option<&str>) -> String {
    match user {
        Some(user) => {
            format!(r#"<span>Signed in as <b>{}</b></span><a class="button" href="/logout">Sign out</a>"#, escape(user))
        }
        None => r#"<form action="/login" method="post"><input name="username" placeholder="User name" aria-label="User name" required maxlength="64"><button>Sign in</button></form>"#.to_owned(),
    }
}

fn details_table(details: &Value) -> String {
    let rows =
        DETAILS.iter().map(|(label, field)| format!("<dt>{label}</dt><dd>{}</dd>", text(&details[*field])));
    format!("<dl>{}</dl>", rows.collect::<String>())
}

fn served_by(reviews: Option<&Value>) -> String {
    match reviews.and_then(|reviews| reviews["podname"].as_str()) {
        Some(pod) => format!("<span>served by {}</span>", escape(pod)),
        None => String::new(),
    }
}

fn reviews_list(reviews: &Value) -> String {
    let list = reviews["reviews"].as_array().map(Vec::as_slice).unwrap_or_default();
    let quotes = list.iter().map(|review| {
        format!(
            "<blockquote><p>{}</p><footer>{}{}</footer></blockquote>",
            text(&review["text"]),
            text(&review["reviewer"]),
            stars(&review["rating"])
        )
    });
    quotes.collect()
}

fn stars(rating: &Value) -> String {
    if let Some(error) = rating["error"].as_str() {
        return format!("<em>{}</em>", escape(error));
    }
    let Some(count) = rating["stars"].as_u64() else { return String::new() };
    let count = count.min(STARS_MAX);
    let color = if rating["color"] == "red" { "red" } else { "black" };
    let full = "★".repeat(count as usize);
    let empty = "★".repeat((STARS_MAX - count) as usize);
    format!(r#"<span class="stars {color}" title="{count} of {STARS_MAX}">{full}<i>{empty}</i></span>"#)
}

fn sorry(what: &str) -> String {
    format!(
        r#"<div class="error"><strong>Error fetching {what}!</strong>Sorry, {what} are currently unavailable for this book.</div>"#
    )
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => escape(text),
        Value::Null => String::new(),
        other => escape(&other.to_string()),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_missing_part_is_said_and_the_rest_still_shown() {
        let product = json!({"title": "T", "descriptionHtml": "D"});
        let page = render(&product, Some(&json!({"author": "A"})), None, None);
        assert!(page.contains("<dd>A</dd>"));
        assert!(page.contains("Error fetching product reviews!"));
        assert!(!page.contains("{{"));
    }

    #[test]
    fn text_from_outside_is_escaped_and_never_a_placeholder() {
        let reviews = json!({"podname": "<p>", "reviews": [
            {"reviewer": "{{title}}", "text": "<script>", "rating": {"stars": 9, "color": "\"red"}},
        ]});
        let page = render(&json!({"title": "T"}), None, Some(&reviews), Some("u"));
        assert!(!page.contains("<script>"));
        assert!(page.contains("served by &lt;p&gt;"));
        assert!(page.contains("{{title}}"), "put in as it is");
        assert!(page.contains(r#"class="stars black" title="5 of 5""#));
    }
}
