//! Futures that another thread may poll.

use std::path::Path;
use std::sync::Arc;

use sandbox_core::{RelativePath, SessionDir};
use skill_store::{PublishOptions, SkillId, SkillLock, SkillRef, SkillStore, Tag, Version};

fn check<F: Future + Send>(_: F) {}

#[expect(dead_code, reason = "it is compiled to check types")]
fn every_call_can_move_to_another_thread(
    skills: &SkillStore,
    skill: &SkillRef,
    id: &SkillId,
    dir: &Arc<SessionDir>,
    lock: &SkillLock,
    tag: &Tag,
    file: &RelativePath,
) {
    let (path, version) = (Path::new("/"), Version::FIRST);
    check(skills.publish(path, &PublishOptions::default()));
    check(skills.publish_zip(path, &PublishOptions::default()));
    check(skills.install(skill, dir, path));
    check(skills.install_into(skill, path));
    check(skills.install_locked(&lock.skills()[0], path));
    check(skills.install_all_locked(lock, path));
    check(skills.versions(id));
    check(skills.latest(id));
    check(skills.list());
    check(skills.ids());
    check(skills.find(skill));
    check(skills.lock(skill));
    check(skills.manifest(skill));
    check(skills.read(skill, file));
    check(skills.diff(id, version, version));
    check(skills.rollback(id, version));
    check(skills.delete(id, version));
    check(skills.tags(id));
    check(skills.tag(id, tag, version));
    check(skills.untag(id, tag));
    check(skills.sign(id, version, ""));
}
