wsurg
