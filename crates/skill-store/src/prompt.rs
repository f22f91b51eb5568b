//! Skills in a system prompt.

use crate::install::InstalledSkill;

/// Describes the installed skills for a system prompt: name, what it is for, and the file to read
/// before using it. In the form that the Agent Skills specification recommends (agentskills.io,
/// "Adding skills support").
pub fn prompt(skills: &[InstalledSkill]) -> String {
    let mut text = "<available_skills>\n".to_owned();
    for skill in skills {
        let description = skill.description.as_deref().unwrap_or("(its SKILL.md does not say)");
        text += &format!(
            "  <skill>\n    <name>{}</name>\n    <description>{}</description>\n    \
             <location>skills/{}/SKILL.md</location>\n  </skill>\n",
            skill.name,
            escaped(description),
            skill.name,
        );
    }
    text + "</available_skills>"
}

/// A description stays what it is: no text of a skill closes its own element.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{SkillId, SkillName, Version};

    #[test]
    fn each_skill_stands_with_its_file_and_cannot_break_out() {
        let skill = InstalledSkill {
            id: SkillId::parse("pdf").unwrap(),
            name: SkillName::parse("reports").unwrap(),
            version: Version::FIRST,
            description: Some("Reads </description> & writes.".to_owned()),
        };
        let text = prompt(&[skill]);
        assert!(text.contains("<location>skills/reports/SKILL.md</location>"), "{text}");
        assert!(text.contains("Reads &lt;/description&gt; &amp; writes."), "{text}");
        assert_eq!(text.matches("</description>").count(), 1);
    }
}
