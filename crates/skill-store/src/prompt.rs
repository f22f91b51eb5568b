//! Descriptions of skills for a system prompt.

use crate::installed::InstalledSkill;
use crate::layout::{SKILL_FILE, SKILLS_DIRECTORY};

/// Describes installed skills for a system prompt: the name, the purpose, and the file to read
/// before use.
///
/// The form is the one that the Agent Skills specification recommends (agentskills.io, "Adding
/// skills support").
pub fn prompt(skills: &[InstalledSkill]) -> String {
    let mut text = "<available_skills>\n".to_owned();
    for InstalledSkill { name, description, .. } in skills {
        let description = description.as_deref().unwrap_or("(its SKILL.md does not say)");
        text += &format!(
            "  <skill>\n    <name>{name}</name>\n    <description>{}</description>\n    \
             <location>{SKILLS_DIRECTORY}/{name}/{SKILL_FILE}</location>\n  </skill>\n",
            escape(description),
        );
    }
    text + "</available_skills>"
}

/// Escapes markup, so that a description cannot close its own element.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::id::{SkillId, Version};
    use crate::skill_name::SkillName;

    #[test]
    fn a_skill_is_listed_with_its_file_and_its_description_is_escaped() {
        let skill = InstalledSkill {
            id: SkillId::parse("pdf").unwrap(),
            name: SkillName::parse("reports").unwrap(),
            version: Version::FIRST,
            digest: Digest::of(b""),
            description: Some("Reads </description> & writes.".to_owned()),
        };
        let text = prompt(&[skill]);
        assert!(text.contains("<location>skills/reports/SKILL.md</location>"), "{text}");
        assert!(text.contains("Reads &lt;/description&gt; &amp; writes."), "{text}");
        assert_eq!(text.matches("</description>").count(), 1);
    }
}
