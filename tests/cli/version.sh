wsurg --version
wsurg methods --version
wsurg --version --json
