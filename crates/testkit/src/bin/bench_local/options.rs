//! What is measured.

use std::path::PathBuf;

use ostro_agent::{DataPlane, NoSuchDataPlane};
use ostro_testkit::envoy;

/// From the command line.
pub struct Options {
    /// Pods, beside the ingress gateway's.
    pub pods: usize,
    /// Services; pods are dealt out to them in turn.
    pub services: usize,
    /// How often.
    pub rounds: usize,
    /// Where the results go too.
    pub json: Option<PathBuf>,
    /// Where `ostro` and `ostro-sample` are.
    pub programs: PathBuf,
    /// Root brings the mesh up, and not an ordinary user.
    pub as_root: bool,
    /// What its proxies are.
    pub proxy: DataPlane,
}

impl Options {
    pub fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            pods: 100,
            services: 40,
            rounds: 5,
            json: None,
            programs: envoy::workspace().join("target/release"),
            as_root: false,
            proxy: DataPlane::default(),
        };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} wants a value"));
            let number = |text: String| match text.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("{text} is no number from 1 on")),
            };
            match name.as_str() {
                "--pods" => options.pods = number(value()?)?,
                "--services" => options.services = number(value()?)?,
                "--rounds" => options.rounds = number(value()?)?,
                "--json" => options.json = Some(value()?.into()),
                "--programs" => options.programs = value()?.into(),
                "--as-root" => options.as_root = true,
                "--proxy" => {
                    let proxy = value()?.parse();
                    options.proxy = proxy.map_err(|error: NoSuchDataPlane| error.to_string())?;
                }
                other => {
                    return Err(format!(
                        "{other}: there are --pods, --services, --rounds, each with a number, --json FILE, \
                         --programs DIR, --proxy ostro|envoy, and --as-root"
                    ));
                }
            }
        }
        match options.pods >= options.services {
            true => Ok(options),
            false => Err("a service without a pod would measure nothing: give more --pods".to_owned()),
        }
    }

    /// The mesh as YAML: each service with its Deployment.
    pub fn yaml(&self) -> String {
        let replicas = |n: usize| self.pods / self.services + usize::from(n < self.pods % self.services);
        let one = |n: usize| {
            format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, namespace: bench}}\n\
                 spec: {{selector: {{app: s{n}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n---\n\
                 apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: s{n}, namespace: bench}}\nspec:\n  \
                 replicas: {}\n  selector: {{matchLabels: {{app: s{n}}}}}\n  template:\n    \
                 metadata: {{labels: {{app: s{n}}}}}\n    spec:\n      containers:\n      \
                 - {{name: echo, image: ostro/sample, args: [echo, --http, \"8080\"], ports: [{{containerPort: 8080}}]}}\n",
                replicas(n)
            )
        };
        (0..self.services).map(one).collect::<Vec<_>>().join("---\n")
    }
}
