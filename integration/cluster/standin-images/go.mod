module trainerd.test/cluster/standin-images

go 1.26
