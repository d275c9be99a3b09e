//! Every file of `examples/` is accepted by a real API server.

use hookwright_e2e::workspace;

use crate::shop::plane;

#[tokio::test]
async fn the_api_server_accepts_every_example() {
    let (plane, _machine) = plane().await;
    for folder in std::fs::read_dir(workspace().join("examples")).unwrap() {
        let folder = folder.unwrap().path();
        let applied = plane.kubectl(&["apply", "-f", &folder.to_string_lossy()]).await.unwrap();
        let files = std::fs::read_dir(&folder).unwrap().filter_map(Result::ok);
        let files = files.filter(|file| file.path().extension().is_some_and(|extension| extension == "yaml")).count();
        assert!(files > 0 && applied.lines().count() >= files, "{}: {applied}", folder.display());
    }
}
