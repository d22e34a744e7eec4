//! Meshes of which some proxies are ours and some are stock Envoys.

use std::str::FromStr;

use ostro_agent::DataPlane;

/// What the proxies of a mesh are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// All of them the same.
    All(DataPlane),
    /// Of every second workload stock Envoy, ours of all others.
    Half,
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "mixed" => Ok(Mix::Half),
            text => text
                .parse()
                .map(Mix::All)
                .map_err(|error: ostro_agent::NoSuchDataPlane| format!("{error}, mixed")),
        }
    }
}

impl Mix {
    /// Some are ours.
    pub fn has_ours(self) -> bool {
        self != Mix::All(DataPlane::Envoy)
    }

    /// Of pods that ask for nothing.
    pub fn usual(self) -> DataPlane {
        match self {
            Mix::All(plane) => plane,
            Mix::Half => DataPlane::Ostro,
        }
    }

    /// What the workload of this number, among its like, has to ask for.
    pub fn of(self, number: usize) -> DataPlane {
        match self {
            Mix::All(plane) => plane,
            Mix::Half if number.is_multiple_of(2) => DataPlane::Ostro,
            Mix::Half => DataPlane::Envoy,
        }
    }

    /// Manifests whose pods ask for the proxies that they are to have. Only block style is understood: each template's
    /// `metadata:` stands in the line after `template:`.
    pub fn ask(self, yaml: &str) -> String {
        if self != Mix::Half {
            return yaml.to_owned();
        }
        let (mut lines, mut templates) = (Vec::new(), 0);
        let mut source = yaml.lines().peekable();
        while let Some(line) = source.next() {
            lines.push(line.to_owned());
            if line.trim() != "template:" || source.peek().is_none_or(|next| next.trim() != "metadata:") {
                continue;
            }
            lines.extend(source.next().map(str::to_owned));
            let first = source.peek().copied().unwrap_or_default();
            let indent = first.len() - first.trim_start().len();
            let indent = match first.trim() {
                "annotations:" => {
                    lines.extend(source.next().map(str::to_owned));
                    indent + 2
                }
                _ => {
                    lines.push(format!("{:indent$}annotations:", ""));
                    indent + 2
                }
            };
            lines.push(format!("{:indent$}ostro.dev/proxy: {}", "", self.of(templates)));
            templates += 1;
        }
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_workload_asks_for_envoy() {
        let plain = "spec:\n  template:\n    metadata:\n      labels:\n        app: a\n";
        let noted = "spec:\n  template:\n    metadata:\n      annotations:\n        a: b\n";
        let text = Mix::Half.ask(&format!("{plain}---\n{noted}"));
        assert_eq!(
            text,
            "spec:\n  template:\n    metadata:\n      annotations:\n        ostro.dev/proxy: ostro\n      labels:\n        \
             app: a\n---\nspec:\n  template:\n    metadata:\n      annotations:\n        ostro.dev/proxy: envoy\n        \
             a: b\n"
        );
        assert_eq!(Mix::All(DataPlane::Envoy).ask(plain), plain);
    }

    #[test]
    fn names() {
        assert_eq!("mixed".parse(), Ok(Mix::Half));
        assert_eq!("ostro".parse(), Ok(Mix::All(DataPlane::Ostro)));
        assert_eq!("x".parse::<Mix>(), Err("no proxy `x`; allowed: ostro, envoy, mixed".to_owned()));
    }
}
