//! Repositories of every layout, the ways by which a command could make git act for it, and
//! ordinary work.

/// Creates the repositories in `template`.
pub(super) const SETUP: &str = r#"set -e
git init -q --bare upstream.git
mkdir user && cd user
repository() {
    git init -q "$1" && cd "$1" && echo hi > file && git add . && git commit -q -m first
    git branch other && cd ..
}
for name in checkout linked husky moved lib; do repository $name; done
git clone -q --bare checkout bare.git
cd checkout
git remote add origin ../../upstream.git && git push -q -u origin main
mkdir src tools && echo x > src/f && printf '#!/bin/sh\ncat\n' > tools/clean.sh
chmod +x tools/clean.sh && echo '*.txt filter=tool' > .gitattributes && echo x > a.txt
git config filter.tool.clean ./tools/clean.sh
mkdir local && printf '#!/bin/sh\n' > local/hook.sh && echo local >> .git/info/exclude
cp tools/clean.sh tools/top.sh && chmod +x local/*
ln -s ../../local/hook.sh .git/hooks/post-checkout
git config filter.top.clean '"$(git rev-parse --show-toplevel)"/tools/top.sh'
echo '*.top filter=top' >> .gitattributes && echo x > c.top
git config sequence.editor 'env A=1 tools/ed.sh' && git config branch.topic.remote ../peer.git
git config remote.web.url "file://${PWD%/*}/web.git"
git config "url.${PWD%/*}/mirror/.insteadOf" https://mirror.example/
git config remote.mirror.url https://mirror.example/r.git
git config filter.late.clean ./tools/late.sh && echo '*.late filter=late' >> .gitattributes
echo x > b.late && git config remote.later.url ../later.git
git config include.path ../absent.config
git config --add include.path ../shared.config && echo > shared.config
git config extensions.worktreeConfig true
git submodule --quiet add "$PWD/../lib" sub
git add . && git commit -q -m second && git worktree add -q wt
cd ../linked && mkdir -p shared/hooks dotfiles && rm -rf .git/hooks
ln -s ../shared/hooks .git/hooks && echo : > dotfiles/bashrc && ln -s dotfiles/bashrc .bashrc
cd ../husky && mkdir -p .husky/_ && git config core.hooksPath .husky/_
printf '#!/bin/sh\nsh .husky/pre-commit\n' > .husky/_/pre-commit && chmod +x .husky/_/pre-commit
echo : > .husky/pre-commit
cd ../moved && mkdir store && mv .git store/git && ln -s store/git .git
mkdir ../stale ../dangling && echo 'gitdir: ../gone/modules/sm' > ../stale/.git
ln -s ../moved-away/git ../dangling/.git
cd ../.. && mv user template && cp -a template user && git -C user/checkout worktree repair wt
rm -rf template && mv user template
"#;

/// Functions for the scripts below. `CANARY` is a file that only a program of the agent creates.
pub(super) const TOOLS: &str = r#"
commit() { git -c user.name=x -c user.email=x commit -q "$@"; }
config() {
    printf '[core]\nrepositoryformatversion = 0\nbare = false\nfsmonitor = "touch CANARY; false"\n'
    printf '[user]\nname = x\nemail = x\n'
    printf '[remote "origin"]\nurl = ../lib\nuploadpack = touch CANARY;\n'
}
hook() { printf '#!/bin/sh\ntouch CANARY\n' > "$1" && chmod +x "$1"; }
evil() {
    cp -r checkout/.git "$1" 2>/dev/null
    rm -rf "$1/hooks" "$1/config" "$1/modules" "$1/worktrees" "$1/config.worktree"
    mkdir -p "$1/hooks"; config > "$1/config"; hook "$1/hooks/pre-commit"
    hook "$1/hooks/post-checkout"
}
nested() { git init -q "$1"; (cd "$1"; commit --allow-empty -m x; config >> .git/config); }
# Adds an entry with a name that git itself refuses, of mode $1, name $2 and object $3.
entry() {
    git update-index --add --cacheinfo "$1,$3,${2//./X}"
    local file; for file in "$(git rev-parse --git-path index)" .git/sharedindex.*; do
        [ ! -f "$file" ] || LC_ALL=C sed -i "s|${2//./X}|$2|" "$file"
    done
}
"#;

/// Scripts that make the user's git run a program or write to `VICTIM`, each with its name and the
/// directory of the user's git. They start in `user`.
pub(super) const EFFECTIVE: &[(&str, &str, &str)] = &[
    ("config", "checkout", "config >> checkout/.git/config"),
    ("config by rename", "checkout", "config > c; mv c checkout/.git/config"),
    ("configuration of a worktree", "checkout", "config > checkout/.git/config.worktree"),
    ("hook", "checkout", "hook checkout/.git/hooks/pre-commit"),
    ("target of a linked hook", "checkout", "hook checkout/local/hook.sh"),
    (
        "program behind an expansion",
        "checkout",
        "hook checkout/tools/top.sh; echo y >> checkout/c.top",
    ),
    (
        "hooks by rename",
        "checkout",
        "mkdir h; hook h/pre-commit; rm -rf checkout/.git/hooks; mv h checkout/.git/hooks",
    ),
    (
        "commondir",
        "checkout",
        "mkdir checkout/node_modules; evil checkout/node_modules/.e; \
         echo ../node_modules/.e > checkout/.git/commondir",
    ),
    (
        "moved git directory",
        "checkout",
        "evil e; mv checkout/.git checkout/old; mv e checkout/.git",
    ),
    ("moved work tree", "checkout", "evil e; mv checkout away; mkdir checkout; mv e checkout/.git"),
    (
        "pointer of a submodule",
        "checkout/sub",
        "evil e; rm checkout/sub/.git; mv e checkout/sub/.git",
    ),
    (
        "other pointer of a submodule",
        "checkout/sub",
        "evil e; echo gitdir: ../../e > checkout/sub/.git",
    ),
    ("link for the pointer", "checkout/sub", "evil e; ln -sfn ../../e checkout/sub/.git"),
    ("config of a submodule", "checkout/sub", "config >> checkout/.git/modules/sub/config"),
    ("hook of a submodule", "checkout/sub", "hook checkout/.git/modules/sub/hooks/pre-commit"),
    (
        "commondir of a submodule",
        "checkout/sub",
        "evil e; echo ../../../../e > checkout/.git/modules/sub/commondir",
    ),
    ("pointer of a worktree", "checkout/wt", "evil e; rm checkout/wt/.git; mv e checkout/wt/.git"),
    (
        "commondir of a worktree",
        "checkout/wt",
        "evil e; echo \"$PWD/e\" > checkout/.git/worktrees/wt/commondir",
    ),
    ("config of a worktree", "checkout/wt", "config > checkout/.git/worktrees/wt/config.worktree"),
    (
        "config of a bare repository",
        "bare.git",
        "cd bare.git; config >> config; printf '[core]\nbare = false\nworktree = .\n' >> config",
    ),
    ("hook of a bare repository", "bare.git", "hook bare.git/hooks/reference-transaction"),
    ("bare repository in a directory", "checkout/src", "evil e; cp -r e/. checkout/src/"),
    (
        "renamed logs as a bare repository",
        "checkout/src",
        "evil e; rm -rf checkout/src; mv checkout/.git/logs checkout/src; \
      echo ref: refs/heads/main > checkout/src/HEAD; cp -rn e/. checkout/src/",
    ),
    (
        "submodule in the index",
        "checkout",
        "git init -q checkout/new; cd checkout/new; git -c user.name=x -c user.email=x commit -q \
         --allow-empty -m x; config >> .git/config; cd ..; \
         git update-index --add --cacheinfo 160000,$(git -C new rev-parse HEAD),new",
    ),
    (
        "submodule outside",
        "checkout",
        "nested e; cd checkout; entry 160000 ../e $(git -C ../e rev-parse HEAD)",
    ),
    (
        "submodule outside in an index of version 4",
        "checkout",
        "nested e; cd checkout; git update-index --index-version 4; \
         entry 160000 ../e $(git -C ../e rev-parse HEAD)",
    ),
    (
        "submodule outside in a shared index",
        "checkout",
        "nested e; cd checkout; git update-index --add --cacheinfo 160000,$(git -C ../e rev-parse \
         HEAD),XX/e; git update-index --split-index; LC_ALL=C sed -i 's|XX/e|../e|' \
         .git/sharedindex.*",
    ),
    (
        "submodule with an absolute name",
        "checkout",
        "nested e; cd checkout; e=$(cd ../e; pwd); C=$(git -C ../e rev-parse HEAD); \
         git update-index --add --cacheinfo \"160000,$C,X${e#/}\"; \
         LC_ALL=C sed -i \"s|X${e#/}|$e|\" .git/index",
    ),
    (
        "submodule in the git directory",
        "checkout",
        "nested e; cp -r e checkout/.git/x; cd checkout; \
         entry 160000 .git/x $(git -C ../e rev-parse HEAD)",
    ),
    (
        "file in the git directory",
        "checkout",
        "cd checkout; entry 100644 .git/config $(config | git hash-object -w --stdin)",
    ),
    (
        "file outside",
        "checkout",
        "cd checkout; entry 100644 ../../victim $(echo evil | git hash-object -w --stdin)",
    ),
    (
        "index of a submodule",
        "checkout/sub",
        "nested e; cd checkout/sub; entry 160000 ../../e $(git -C ../../e rev-parse HEAD)",
    ),
    (
        "index of a worktree",
        "checkout/wt",
        "nested e; cd checkout/wt; entry 160000 ../../e $(git -C ../../e rev-parse HEAD)",
    ),
    ("repository above a damaged one", "checkout", "evil e; mv e .git; rm checkout/.git/HEAD"),
    (
        "bare repository above a damaged one",
        "checkout",
        "evil e; cp -r e/. .; rm checkout/.git/HEAD",
    ),
    (
        "link in place of the git directory",
        "moved",
        "evil e; rm -rf moved/.git; ln -s ../e moved/.git",
    ),
    ("target of a linked git directory", "moved", "config >> moved/store/git/config"),
    ("linked hooks", "linked", "hook linked/shared/hooks/pre-commit"),
    (
        "replaced link to hooks",
        "linked",
        "rm linked/.git/hooks; mkdir linked/.git/hooks; hook linked/.git/hooks/pre-commit",
    ),
    (
        "moved target of linked hooks",
        "linked",
        "mv linked/shared x; mkdir -p linked/shared/hooks; hook linked/shared/hooks/pre-commit",
    ),
    ("directory of core.hooksPath", "husky", "hook husky/.husky/_/pre-commit"),
    ("script of a hook", "husky", "echo touch CANARY > husky/.husky/pre-commit"),
    ("included file", "checkout", "config >> checkout/shared.config"),
    ("absent included file", "checkout", "config > checkout/absent.config"),
    (
        "link to an absent included file",
        "checkout",
        "config > c; ln -s ../c checkout/absent.config",
    ),
    (
        "program in a work tree",
        "checkout",
        "echo touch CANARY >> checkout/tools/clean.sh; echo y >> checkout/a.txt",
    ),
    (
        "absent program in a work tree",
        "checkout",
        "hook checkout/tools/late.sh; echo y > checkout/b.late",
    ),
    (
        "directory of a program",
        "checkout",
        "cd checkout; mv tools t; mkdir tools; hook tools/clean.sh; echo y >> a.txt",
    ),
    (
        "text of a commit",
        "checkout",
        "rm -f checkout/.git/COMMIT_EDITMSG; ln -s VICTIM checkout/.git/COMMIT_EDITMSG",
    ),
    ("log", "checkout", "rm checkout/.git/logs/HEAD; ln -s VICTIM checkout/.git/logs/HEAD"),
    (
        "list of fetched commits",
        "checkout",
        "rm -f checkout/.git/FETCH_HEAD; ln -s VICTIM checkout/.git/FETCH_HEAD",
    ),
    (
        "link that is moved into the git directory",
        "checkout",
        "ln -s VICTIM l; rm -f checkout/.git/COMMIT_EDITMSG; mv l checkout/.git/COMMIT_EDITMSG",
    ),
    (
        "resolution of an earlier conflict",
        "checkout",
        "cd checkout; h=0123456789abcdef0123456789abcdef01234567; mkdir -p .git/rr-cache/$h; \
         cp .git/config .git/rr-cache/$h/preimage; \
         { cat .git/config; config; } > .git/rr-cache/$h/postimage; \
         printf \"$h.-1\\t.git/config\\000\" > .git/MERGE_RR",
    ),
    (
        "symbolic ref to another file",
        "checkout",
        "cd checkout; o=$(git rev-parse origin/main); git pack-refs --all; mkdir -p .git/$o; \
         cp -r .git/objects .git/refs .git/$o/; sed -i /heads.main/d .git/packed-refs; \
         cp .git/packed-refs .git/$o/; config > .git/$o/config; mkdir -p .git/refs/heads; \
         echo 'ref: commondir' > .git/refs/heads/main",
    ),
    (
        "long symbolic ref",
        "checkout",
        "cd checkout; o=$(git rev-parse origin/main); git pack-refs --all; mkdir -p .git/$o; \
         cp -r .git/objects .git/refs .git/$o/; sed -i /heads.main/d .git/packed-refs; \
         cp .git/packed-refs .git/$o/; config > .git/$o/config; mkdir -p .git/refs/heads; \
         printf 'ref: commondir%9000s\\n' '' > .git/refs/heads/main",
    ),
    ("absent target of a pointer", "stale", "evil e; mkdir -p gone/modules; mv e gone/modules/sm"),
    ("absent target of a link", "dangling", "evil e; mkdir moved-away; mv e moved-away/git"),
    ("hook of a push", "husky", "cd husky; mkdir -p .git/.husky/_; hook .git/.husky/_/pre-receive"),
    (
        "unfinished rebase",
        "checkout",
        "cd checkout/.git; mkdir rebase-merge; cd rebase-merge; git rev-parse HEAD > onto; \
         cp onto orig-head; echo refs/heads/main > head-name; : > interactive; echo 0 > msgnum; \
         echo 1 > end; : > done; echo 'exec touch CANARY' > git-rebase-todo",
    ),
];

/// Scripts that must fail. They start in `user`.
pub(super) const REFUSED: &[&str] = &[
    "echo /x > checkout/.git/objects/info/alternates",
    "echo /x > checkout/.git/objects/info/http-alternates",
    "echo /x > checkout/.git/worktrees/wt/gitdir",
    "mkdir -p .config/git",
    "mkdir -p .config && mkdir g && echo x > g/config && mv g .config/git",
    "mkdir checkout/.git/sequencer",
    "mkdir checkout/.git/rebase-apply",
    "cd checkout; exec 9<.; mkdir //proc/self/fd/9/.claude",
    "cd checkout; exec 9<.; mkdir /./proc/self/fd/9/.claude",
    "cd checkout; exec 9<.; ln -s /proc/self/fd links; mkdir links/9/.claude",
    "cd checkout; exec 9<.; cd /; mkdir proc/self/fd/9/.claude",
    "cd checkout/.git; exec 9<.; ln -s /x //proc/self/fd/9/link",
    "mkdir -p checkout/.git/remotes && echo URL: /x > checkout/.git/remotes/origin",
    "mkdir -p checkout/.git/branches && echo /x > checkout/.git/branches/origin",
    "rm checkout/sub/.git",
    "mv checkout/.git/modules checkout/.git/m",
    "rm -r checkout/.git/hooks",
    "rm checkout/.git/config",
    "rm linked/.bashrc",
    "mv linked/.bashrc linked/b",
    "echo x > linked/dotfiles/bashrc",
    "ln -sf /etc/passwd linked/.bashrc",
    "mkdir e && cd e && ln -s /x ../checkout/.git/modules/x",
    "git init -q --bare later.git",
    "git init -q l && mv l later.git",
    "git init -q --bare web.git",
    "git init -q --bare peer.git",
    "mkdir mirror && git init -q --bare mirror/r.git",
    "echo x > checkout/tools/ed.sh",
    "mv checkout/tools checkout/t",
    "cd checkout && git init -q nested",
    "cd checkout && git init -q --bare nested.git",
    "git init -q .",
    "cd checkout && git worktree add ../other",
];

/// Ordinary work, which must succeed. It starts in `user`.
pub(super) const WORK: &[&str] = &[
    "cd checkout && echo y >> src/f && git add src && commit -m x",
    "cd checkout && git checkout -q -b topic && git checkout -q main && git branch -D topic",
    "cd checkout && git stash list && git tag t && git gc -q && git log -1 && git diff HEAD~1",
    "cd checkout && mkdir d && ln -s ../src d/l && mv d d2 && rm -r d2",
    "cd checkout/sub && echo y > g && git add g && commit -m x",
    "cd checkout/wt && echo y > g && git add g && commit -m x",
    "cd checkout && echo '*.bin binary' >> .gitattributes && echo build >> .git/info/exclude",
    "cd checkout && git update-index --index-version 4 && git update-index --split-index",
    "cd checkout && echo y >> src/f && commit -a -m y && git update-index --no-split-index",
    "cd checkout && git update-index --untracked-cache && git status",
    // Git writes positions for its threads into a large index.
    "cd checkout && id=$(git rev-parse HEAD:file) && for i in {1..30000}; do \
     printf '100644 %s 0\\tmany/%s/%s\\n' $id $((i % 100)) $i; done | git -c index.threads=3 \
     update-index --index-info && git status >/dev/null",
    "cd checkout && git reset -q --hard",
    "git init -q made && cd made && commit --allow-empty -m x",
    "cd /tmp && git init -q r && cd r && git config a.b c && ln -s x .git/l && rm -rf /tmp/r",
    "cd \"$HOME\" && git init -q r && cd r && git config a.b c && cd .. && mv r r2 && rm -rf r2",
];
