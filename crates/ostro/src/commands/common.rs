//! What more than one subcommand needs: which mesh is meant, and how things are printed.

use ostro_api::similar;
use ostro_local::api::client::{Client, ClientError};
use ostro_local::api::view::{Key, Text};
use ostro_local::meshes::{DEFAULT_NAME, MeshName, Meshes};
use ostro_sources::tree;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a pod is that has done its work.
pub const COMPLETED: &str = "Completed";

/// Which mesh is meant.
#[derive(clap::Args, Debug)]
pub struct MeshArgs {
    /// The mesh that is meant, of several that run on this machine.
    #[arg(long = "name", alias = "mesh", value_name = "MESH", default_value = DEFAULT_NAME)]
    pub name: MeshName,
}

impl MeshArgs {
    /// The mesh, if it answers.
    pub async fn open(&self) -> Result<Client, ClientError> {
        Client::open(&Meshes::of_this_user(), &self.name).await
    }
}

/// Which pod is meant.
#[derive(clap::Args, Debug)]
pub struct PodArgs {
    /// A pod's name, the beginning of it, or its workload: reviews-v1, deploy/reviews-v1.
    #[arg(value_name = "POD")]
    pub pod: String,
    /// The pod's namespace [default: wherever there is one of that name].
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

/// The kind that was typed.
pub fn kind(typed: &str) -> Result<&'static str, String> {
    similar::kind(typed).map_err(|near| match near {
        Some(near) => format!("no kind `{typed}`; did you mean `{near}`?"),
        None => format!(
            "no kind `{typed}`; write KIND NAME or KIND/NAME, such as deploy/reviews-v1 or svc/reviews"
        ),
    })
}

/// An object, as `kubectl` says it: `deployment/reviews-v1`, and where it is unless that is `default`.
pub fn key_text(key: &Key) -> String {
    let place = match key.namespace.as_str() {
        "" | "default" => String::new(),
        namespace => format!(" -n {namespace}"),
    };
    format!("{}/{}{place}", key.kind.to_lowercase(), key.name)
}

/// A program's exit status as ours.
pub fn narrow(code: i32) -> u8 {
    u8::try_from(code & 0xff).unwrap_or(1)
}

/// What is wrong with paths that were given.
pub fn path_problem(path: &Path) -> Option<String> {
    let shown = path.display();
    if ["http://", "https://"].iter().any(|scheme| path.to_string_lossy().starts_with(scheme)) {
        return Some(format!(
            "{shown}: files are read from this machine only; get it first: curl -LO {shown}"
        ));
    }
    let tree = tree::walk(&[path.to_owned()]);
    if let Some(problem) = tree.problems.first() {
        return Some(format!("{}: {}; give {}", problem.path.display(), problem.found, problem.allowed));
    }
    if tree.files.is_empty() {
        return Some(format!("{shown}: {}; give {}", tree::NOTHING_TO_READ, tree::SOMETHING_TO_READ));
    }
    let closed = |file: &PathBuf| Some(unreadable(file, &File::open(file).err()?));
    tree.files.iter().find_map(closed)
}

/// Why a file is not read, and what could be done.
fn unreadable(file: &Path, error: &io::Error) -> String {
    let shown = file.display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{shown}: you may not read it; let its owner change that: chmod a+r {shown}")
        }
        io::ErrorKind::InvalidData => format!("{shown}: not text; give files of YAML or JSON"),
        _ => format!("{shown}: {error}"),
    }
}

/// The texts below the paths; `-` is standard input. Everything that is wrong with the paths is told.
pub fn texts(paths: &[PathBuf]) -> Result<Vec<Text>, String> {
    let mut texts = Vec::new();
    let mut problems = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            match io::read_to_string(io::stdin()) {
                Ok(text) => texts.push(Text { name: "standard input".to_owned(), text }),
                Err(error) => problems.push(unreadable(Path::new("standard input"), &error)),
            }
            continue;
        }
        if let Some(problem) = path_problem(path) {
            problems.push(problem);
            continue;
        }
        for file in tree::walk(std::slice::from_ref(path)).files {
            match std::fs::read_to_string(&file) {
                Ok(text) => texts.push(Text { name: file.display().to_string(), text }),
                Err(error) => problems.push(unreadable(&file, &error)),
            }
        }
    }
    if problems.is_empty() { Ok(texts) } else { Err(problems.join("\n  ")) }
}

/// Prints what was made ready; that a reader has seen enough (`| head`) is no failure.
pub fn print(text: &str) -> io::Result<()> {
    print_bytes(text.as_bytes()).map(drop)
}

/// Prints bytes; false if nobody reads them any more.
pub fn print_bytes(bytes: &[u8]) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        printed => printed.map(|()| true),
    }
}

/// Columns as wide as what is in them, three blanks between; nothing after the last.
pub fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("   ").trim_end());
        text.push('\n');
    }
    text
}

/// Time since a moment (seconds since 1970), as `kubectl` writes it: `5s`, `3m`, `2h`, `4d`.
pub fn age(started: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    span(now.saturating_sub(started))
}

fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_with_text() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(columns(&[row(["A", "B"]), row(["long", ""])]), "A      B\nlong\n");
    }

    #[test]
    fn spans_have_one_unit() {
        assert_eq!([5, 119, 120, 7_200, 200_000].map(span), ["5s", "119s", "2m", "2h", "2d"]);
    }
}
