fn main() {
    for f in std::env::args().skip(1) {
        let b = std::fs::read(&f).unwrap();
        let p = ostro_api::parse_file(f.as_str(), &b);
        println!("{f}: {} objects, {} complaints", p.objects.len(), p.complaints.len());
        if std::env::var("V").is_ok() { for o in &p.objects { println!("  {:?}", o); } }
        for c in p.complaints { println!("   {:?} {c}", c.severity); }
    }
}
