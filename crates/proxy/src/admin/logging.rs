//! `/logging`: levels of the program's log, by Envoy's names of its parts.

use std::sync::Arc;

use super::Admin;
use super::answer::Answer;
use super::query::Query;

const USAGE: &str = "usage: /logging?<name>=<level> (change single level)
usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)
usage: /logging?level=<level> (change all levels)
";

pub(super) fn logging(admin: &Arc<Admin>, query: &Query) -> Answer {
    if let Err(error) = change(admin, query) {
        return Answer::bad(format!("error: {error}\n\n{USAGE}"));
    }
    let mut text = "active loggers:\n".to_owned();
    for (name, level) in admin.levels.all() {
        text.push_str(&format!("  {name}: {level}\n"));
    }
    text.push('\n');
    Answer::text(text)
}

fn change(admin: &Admin, query: &Query) -> Result<(), String> {
    let mut parameters = query.iter();
    let Some((key, value)) = parameters.next() else { return Ok(()) };
    if parameters.next().is_some() {
        return Err("invalid number of parameters".to_owned());
    }
    match key {
        "level" => admin.levels.set_all(value),
        "paths" => admin.levels.set_each(value),
        "group" => Err("group parameter requires fine-grain logging to be enabled".to_owned()),
        name => admin.levels.set_each(&format!("{name}:{value}")),
    }
}
